"""Frames of a video, and how much a token looks like its frame and like the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.diversity import unit_rows
from ..core.stage import View


def frame_of_tokens(view: View) -> Tensor:
    """Frame of every token, numbered in order from 0: the frames of every video, and every image as one: [N]."""
    video = torch.tensor([unit.modality == "video" for unit in view.units], device=view.unit.device)
    part = torch.where(video[view.unit], view.part, 0)
    return (view.unit * (int(part.max()) + 1) + part).unique(return_inverse=True)[1]


def likenesses(features: Tensor, frame: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of every token to the mean token of all, and to that of its own frame: two of [N], fp32 (fp64 stays).

    Parameters
    ----------
    features : Tensor [N, D]
    frame : LongTensor [N]
        In ``0 .. T - 1``.
    sizes : LongTensor [T]
        Tokens per frame.
    """
    unit = unit_rows(features)
    wide = features.detach().to(unit.dtype)
    means = frame_means(wide, frame, sizes)
    own = unit_rows(means)
    like_frame = torch.empty(len(unit), dtype=unit.dtype, device=unit.device)
    for rows in torch.arange(len(unit), device=unit.device).split(4096):
        like_frame[rows] = (unit[rows] * own[frame[rows]]).sum(1)
    return unit @ unit_rows(wide.mean(0, keepdim=True))[0], like_frame


def frame_means(values: Tensor, frame: Tensor, sizes: Tensor) -> Tensor:
    """Mean rows [T, D] of ``values`` [N, D] over the tokens of each frame."""
    sums = torch.zeros(len(sizes), values.shape[1], dtype=values.dtype, device=values.device)
    return sums.index_add_(0, frame, values) / sizes[:, None]
