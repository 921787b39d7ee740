"""Batches drawn from a pool of shards."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .places import token_places

OUTSIDE = 255
"""Mark of a dense target outside the picture."""
WINDOW = 5
"""Tokens per window and side of tiny-qwen2_5-vl."""


@dataclass
class Batch:
    """Some scenes with questions.

    Parameters
    ----------
    pixels : Tensor uint8 [B, ...]
    dense : LongTensor [B, heads, N]
    present : FloatTensor [B, C]
    slots : LongTensor [B, Q * SLOT]
    answers : BoolTensor [B, Q * SLOT]
        True where the next token is one of an answer.
    places : LongTensor [B, 2, N]
        Column and row of the image tokens in tenths, -100 outside of the picture.
    families : ndarray uint8 [B, Q]
    extra : tuple of Tensor
        What a model wants to know beside the pixels.
    """

    pixels: torch.Tensor
    dense: torch.Tensor
    present: torch.Tensor
    slots: torch.Tensor
    answers: torch.Tensor
    places: torch.Tensor
    families: np.ndarray
    extra: tuple[torch.Tensor, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Move the tensors."""
        return Batch(
            self.pixels.to(device),
            self.dense.to(device),
            self.present.to(device),
            self.slots.to(device),
            self.answers.to(device),
            self.places.to(device),
            self.families,
            tuple(t.to(device) for t in self.extra),
        )


class Shard:
    """One folder of :func:`vtc.eval.training.pool.write_shard`, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}

    def __len__(self) -> int:
        return len(self.arrays["dense"])


def make_batch(shard: Shard, rows: np.ndarray, columns: np.ndarray) -> Batch:
    """Gather scenes ``rows`` [B] with questions ``columns`` [B, Q] of one shard."""
    a = shard.arrays
    chosen = a["questions"][rows[:, None], columns].astype(np.int64)  # [B, Q, SLOT + 1]
    slots, first = chosen[..., :-1], chosen[..., -1:]
    place = np.arange(slots.shape[-1])
    last = (slots != 0).sum(-1, keepdims=True) - 2
    answers = (place >= first - 1) & (place <= last)
    dense = a["dense"][rows].astype(np.int64)
    dense[dense == OUTSIDE] = -100
    return Batch(
        torch.from_numpy(np.ascontiguousarray(a["pixels"][rows])),
        torch.from_numpy(dense).flatten(2),
        torch.from_numpy(a["present"][rows].astype(np.float32)),
        torch.from_numpy(slots).flatten(1),
        torch.from_numpy(answers).flatten(1),
        torch.from_numpy(_places(a, rows)).flatten(2),
        np.take_along_axis(a["families"][rows], columns, 1),
        (torch.from_numpy(a["kind"][rows].astype(np.int64)),) if "kind" in a else (),
    )


def _places(arrays: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Places of the tokens of scenes ``rows``: int64 [B, 2, ...], in the order of the dense targets."""
    if "kind" not in arrays:
        grid = token_places(*arrays["dense"].shape[-2:])
        return np.broadcast_to(grid, (len(rows), *grid.shape)).copy()
    return np.stack([canvas_grid(tuple(kind)) for kind in arrays["kind"][rows].tolist()])


@functools.cache
def canvas_grid(kind: tuple[int, int]) -> np.ndarray:
    """Places of the tokens on the canvas of tiny-qwen2_5-vl: int64 [2, 100]; ``kind`` as in a shard."""
    if kind == (0, 0):
        return np.tile(token_places(WINDOW, WINDOW).reshape(2, -1), 4)
    canvas = np.full((2, 2 * WINDOW, 2 * WINDOW), -100, np.int64)
    canvas[:, : kind[0], : kind[1]] = token_places(*kind)
    return canvas.reshape(2, -1)


class Pool:
    """All shards in some folders; new ones are found as they appear.

    Parameters
    ----------
    folders : sequence of Path
    batch, slots : int
        Scenes per batch, questions per scene.

    Attributes
    ----------
    weights : ndarray [families + 1] or None
        How much more often questions of a family are drawn, by number; None: all alike.
    """

    def __init__(self, folders: Sequence[Path], batch: int, slots: int) -> None:
        self.folders, self.batch, self.slots = list(folders), batch, slots
        self.weights: np.ndarray | None = None
        self.shards: dict[Path, Shard] = {}
        self.refresh()

    def refresh(self) -> None:
        """Open shards written since the last call."""
        for path in sorted(path for folder in self.folders for path in folder.glob("shard-*")):
            if path not in self.shards:
                self.shards[path] = Shard(path)

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw one batch from one shard, without repetition within the batch."""
        names = list(self.shards)
        shard = self.shards[names[rng.integers(len(names))]]
        rows = rng.choice(len(shard), self.batch, replace=False)
        rows.sort()
        families = shard.arrays["families"][rows]
        # the largest of log(weight) + Gumbel noise are a draw without repetition in proportion to the weights
        keys = rng.gumbel(size=families.shape)
        if self.weights is not None:
            keys += np.log(self.weights)[families]
        return make_batch(shard, rows, (-keys).argsort(1)[:, : self.slots])
