"""Frames of a video, and how much a token looks like its frame and like the whole."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.diversity import unit_rows
from ..core.select import topk_indices
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


BANDS = (0.125, 0.25, 0.5, 1.0, 2.0)


def steady_channels(features: Tensor, share: float) -> Tensor:
    """Channels of smallest variance over all tokens, ascending: LongTensor [max(1, floor(D * share))]."""
    wide = features.detach().to(torch.promote_types(features.dtype, torch.float32))
    variance = (wide - wide.mean(0)).square().mean(0)
    count = max(1, int(features.shape[1] * share))
    return variance.sort(stable=True).indices[:count].sort().values


def closeness(features: Tensor, frame: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of five Gaussians of the distance to the mean unit row of all, and to that of its own frame: two of [N].

    The means of unit rows are not made unit rows again.
    """
    unit = unit_rows(features)
    whole, own = unit.mean(0), frame_means(unit, frame, sizes)
    to_whole = torch.empty(len(unit), dtype=unit.dtype, device=unit.device)
    to_own = torch.empty_like(to_whole)
    for rows in torch.arange(len(unit), device=unit.device).split(4096):
        to_whole[rows] = (unit[rows] - whole).square().sum(1)
        to_own[rows] = (unit[rows] - own[frame[rows]]).square().sum(1)
    return _bands(to_whole), _bands(to_own)


def _bands(distance: Tensor) -> Tensor:
    return torch.stack([(-distance / (2 * band)).exp() for band in BANDS]).sum(0)


def best_of_frames(scores: Tensor, frame: Tensor, counts: list[int]) -> Tensor:
    """The ``counts[t]`` tokens of largest score of every frame t: bool [N]."""
    kept = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    for t, count in enumerate(counts):
        mine = (frame == t).nonzero(as_tuple=True)[0]
        kept[mine[topk_indices(scores[mine], count)]] = True
    return kept


def to_total(kept: Tensor, score: Tensor, total: int) -> Tensor:
    """Bring a selection bool [N] to ``total`` tokens: the worst kept go, or the best dropped come back, of all frames.

    Ties: of equal scores the higher index goes and the lower comes back.
    """
    surplus = int(kept.sum()) - total
    best_first = score.sort(descending=True, stable=True).indices
    inside = kept[best_first]
    kept = kept.clone()
    if surplus > 0:
        kept[best_first[inside][total:]] = False
    elif surplus < 0:
        kept[best_first[~inside][:-surplus]] = True
    return kept
