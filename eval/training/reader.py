"""Batches drawn from a pool of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

OUTSIDE = 255
"""Mark of a dense target outside the picture."""


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
    families : ndarray uint8 [B, Q]
    extra : tuple of Tensor
        What a model wants to know beside the pixels.
    """

    pixels: torch.Tensor
    dense: torch.Tensor
    present: torch.Tensor
    slots: torch.Tensor
    answers: torch.Tensor
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
        np.take_along_axis(a["families"][rows], columns, 1),
        (torch.from_numpy(a["kind"][rows].astype(np.int64)),) if "kind" in a else (),
    )


class Pool:
    """All shards in some folders; new ones are found as they appear.

    Parameters
    ----------
    folders : sequence of Path
    batch, slots : int
        Scenes per batch, questions per scene.
    """

    def __init__(self, folders: Sequence[Path], batch: int, slots: int) -> None:
        self.folders, self.batch, self.slots = list(folders), batch, slots
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
        stored = shard.arrays["questions"].shape[1]
        columns = rng.random((self.batch, stored)).argsort(1)[:, : self.slots]
        return make_batch(shard, np.sort(rows), columns)
