"""Images and videos of prompts as the processors of the families deliver them, and batches made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
import transformers as tf
from torch import Tensor

from .parts import BOS, BREAK, IMG, SIDE, VE, VID, VS, Inputs, noise, pad_rows, text_ids

PINPOINTS = [[24, 48], [48, 24], [48, 48], [24, 72]]
"""Resolutions of tiled images, (height, width) in pixels."""


@dataclass
class Piece:
    """One image or video of a prompt: its token ids and its tensors; ``kind`` is 1 for images, 2 for videos."""

    ids: list[int]
    tensors: Inputs
    kind: int = 1


@dataclass
class Prompts:
    """Builds batches from samples; ``piece(part, seed)`` makes an image, ``finish(batch)`` adds what depends on all."""

    piece: Callable[[Any, int], Piece]
    types: bool = False
    finish: Callable[[Inputs], None] | None = None
    join: Callable[[str, list[list[Tensor]]], Tensor] = field(default=lambda key, rows: torch.cat(sum(rows, [])))

    def __call__(self, samples: list[Any], seeds: list[int], side: str = "left") -> Inputs:
        """Inputs for the base model: one row per sample."""
        rows, types, tensors = [], [], []
        for sample, seed in zip(samples, seeds, strict=True):
            ids, kinds, mine = [BOS], [0], []
            for number, part in enumerate(sample):
                if isinstance(part, int):
                    ids += text_ids(part, seed * 10 + number)
                    kinds += [0] * part
                    continue
                piece = self.piece(part, 100 * seed + number)
                ids += piece.ids
                kinds += [piece.kind if i in (IMG, VID) else 0 for i in piece.ids]
                mine.append(piece.tensors)
            rows.append(ids)
            types.append(kinds)
            tensors.append(mine)
        made, mask = pad_rows(rows, side)
        out = dict(input_ids=made, attention_mask=mask)
        if self.types:
            out["mm_token_type_ids"] = pad_rows(types, side, 0)[0]
        for key in dict.fromkeys(k for mine in tensors for t in mine for k in t):
            out[key] = self.join(key, [[t[key] for t in mine if key in t] for mine in tensors])
        if self.finish is not None:
            self.finish(out)
        return out


def framed(n: int, token: int = IMG) -> list[int]:
    """``n`` placeholders between the marks of an image."""
    return [VS] + [token] * n + [VE]


def square(n: int, part: Any, seed: int) -> Piece:
    """Image of one size that becomes ``n`` tokens."""
    return Piece(framed(n), {"pixel_values": noise(1, 3, SIDE, SIDE, seed=seed)})


def video_llava_image(part: Any, seed: int) -> Piece:
    """Image of Video-LLaVA, whose pixels older releases of transformers name otherwise."""
    takes = signature(tf.VideoLlavaModel.get_image_features).parameters
    key = next(k for k in takes if k.startswith("pixel"))
    return Piece(framed(36), {key: noise(1, 3, SIDE, SIDE, seed=seed)})


def on_canvas(part: Any, seed: int, merge: int = 1) -> Piece:
    """Image of ``part[1]`` patches in the corner of a canvas, with its size; "image" fills the canvas."""
    h, w = part[1] if isinstance(part, tuple) else (SIDE // 4, SIDE // 4)
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    pixels[..., : 4 * h, : 4 * w] = noise(3, 4 * h, 4 * w, seed=seed)
    tensors = {"pixel_values": pixels, "image_sizes": torch.tensor([[4 * h, 4 * w]])}
    return Piece(framed(h * w // merge**2), tensors)


def rows_of_breaks(part: Any, seed: int) -> Piece:
    """Mistral 3: merged patches, a break token after every row, an end token after the image."""
    h, w = part[1]
    ids = [i for _ in range(h // 2) for i in [IMG] * (w // 2) + [BREAK]]
    return Piece(ids[:-1] + [VE], on_canvas(part, seed, 2).tensors)


def video(n: int, part: Any, seed: int) -> Piece:
    """Video of ``part[1]`` frames that become ``n`` tokens each, or ``-n`` with one more at the end."""
    frames = part[1]
    pixels = {"pixel_values_videos": noise(1, frames, 3, SIDE, SIDE, seed=seed)}
    return Piece(framed(n * frames if n > 0 else -n * frames + 1, VID), pixels, 2)


def anyres_rows(size: tuple[int, int], most: int | None = None) -> tuple[int, int]:
    """Rows of features and tiles of an image of ``size``: the arithmetic of unpadding, written down independently."""
    height, width = size

    def fit(best: list[int]) -> tuple[float, float]:
        scale = min(best[1] / width, best[0] / height)
        used = min(int(width * scale) * int(height * scale), height * width)
        return used, -(best[0] * best[1] - used)

    best = max(PINPOINTS, key=fit)
    rows, cols = best[0] // 4, best[1] // 4
    tiles = (best[0] // SIDE) * (best[1] // SIDE)
    if width / height > cols / rows:
        rows -= 2 * ((rows - int(round(height * cols / width, 7))) // 2)
    else:
        cols -= 2 * ((cols - int(round(width * rows / height, 7))) // 2)
    if most is not None and (ratio := math.sqrt(rows * cols / (most * 36))) > 1.1:
        rows, cols = int(rows // ratio), int(cols // ratio)
    return 36 + rows * (cols + 1), tiles + 1


def anyres(most: int | None, per_frame: int, part: Any, seed: int) -> Piece:
    """Tiled image of ``part[1]`` pixels, at most ``most`` tiles' worth of tokens; or a video."""
    if part[0] == "video":
        return video(per_frame, part, seed)
    n, crops = anyres_rows(part[1], most)
    pixels = torch.zeros(1, 5, 3, SIDE, SIDE)
    pixels[:, :crops] = noise(1, crops, 3, SIDE, SIDE, seed=seed)
    return Piece(framed(n), {"pixel_values": pixels, "image_sizes": torch.tensor([part[1]])})


def packed(channels: int, part: Any, seed: int, frames: bool = False, sizes: bool = False, token: int = VID) -> Piece:
    """Patches of ``part = (modality, (t, h, w))`` and their grid, as Qwen's processors make them."""
    modality, (t, h, w) = part
    is_video, n = modality == "video", h * w // 4
    ids = framed(n * t, token if is_video else IMG)
    if is_video and frames:
        ids = [i for f in range(t) for i in [30 + f, 31 + f, *framed(n, token)]]
    pixels = "pixel_values_videos" if is_video else "pixel_values"
    tensors = {pixels: noise(t * h * w, channels, seed=seed), f"{modality}_grid_thw": torch.tensor([[t, h, w]])}
    if sizes:
        tensors[f"{modality}_merge_sizes"] = torch.tensor([2])
    return Piece(ids, tensors, 2 if is_video else 1)


def placed(part: Any, seed: int) -> Piece:
    """Gemma 4: patches with (x, y) positions, padded to 96; the frames of a video between time stamps."""
    modality, (t, h, w) = part
    places = torch.full((t, 96, 2), -1)
    places[:, : h * w, 0] = torch.arange(w).repeat(h)
    places[:, : h * w, 1] = torch.arange(h).repeat_interleave(w)
    pixels = torch.zeros(t, 96, 48)
    pixels[:, : h * w] = noise(t, h * w, 48, seed=seed)
    tensors = {f"{modality}_position_ids": places}
    if modality == "image":
        return Piece(framed(h * w // 4), {"pixel_values": pixels, **tensors})
    tensors |= {"pixel_values_videos": pixels, "num_frames_per_video": torch.tensor([t])}
    return Piece([i for f in range(t) for i in [30 + f, *framed(h * w // 4, VID)]], tensors, 2)


def crops_per_sample(key: str, rows: list[list[Tensor]]) -> Tensor:
    """Idefics: ``[samples, crops, ...]`` with black padding crops."""
    most = max(map(len, rows))
    blank = torch.zeros_like(next(t for row in rows for t in row))
    return torch.stack([torch.cat(row + [blank] * (most - len(row))) for row in rows])


def image_types(out: Inputs) -> None:
    """Gemma 3: which tokens are images."""
    out["token_type_ids"] = (out["input_ids"] == IMG).long()


def prefix_types(out: Inputs) -> None:
    """PaliGemma: everything is prefix."""
    out["token_type_ids"] = torch.zeros_like(out["input_ids"])


def video_seconds(out: Inputs) -> None:
    """Qwen2.5-VL: seconds per step of every video."""
    if "video_grid_thw" in out:
        out["second_per_grid_ts"] = torch.ones(len(out["video_grid_thw"]))
