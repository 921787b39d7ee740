"""V-CAST: frames at the bends of a video's path get more tokens, tokens unlike their frame stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.budget import share_out
from ..core.diversity import unit_rows
from ..core.select import with_structure
from ..core.stage import Selection, View
from ._frames import best_of_frames, frame_means, frame_of_tokens
from .base import check_range
from .scorer import BeforeLLM

EPS = 1e-6


def curvature(frames: Tensor) -> Tensor:
    """How sharply the path of frame vectors [T, D] bends: 1 - cosine of the steps to and from each, 1 at the ends."""
    steps = frames.diff(dim=0)
    bends = torch.ones(len(frames), dtype=frames.dtype, device=frames.device)
    if len(steps) > 1:
        bends[1:-1] = 1 - F.cosine_similarity(steps[:-1], steps[1:], dim=1)
    return bends


def allocate(total: int, weights: Tensor, sizes: list[int], least: int, leftover: str) -> list[int]:
    """Share ``total`` tokens over frames in proportion to ``weights``, between ``least`` and their sizes.

    ``least`` is left out where the total does not reach it. What rounding down leaves goes to frames by their fraction:
    one each ("largest_remainder"), or again and again to the first until it is full ("official").
    """
    total = min(max(total, 0), sum(sizes))
    base = least if total >= least * len(sizes) else 0
    counts = [min(base, size) for size in sizes]
    room = [size - count for size, count in zip(sizes, counts, strict=True)]
    rest = total - sum(counts)
    weights = weights.double().cpu()
    weights = weights if float(weights.sum()) > 0 else torch.ones_like(weights)
    if leftover == "largest_remainder":
        more = share_out(rest, weights.clamp_min(1e-12), torch.tensor(room)).tolist()
        return [count + m for count, m in zip(counts, more, strict=True)]
    exact = (weights * rest / weights.sum()).tolist()
    counts = [count + min(int(e), r) for count, e, r in zip(counts, exact, room, strict=True)]
    for t in sorted(range(len(sizes)), key=lambda t: (int(exact[t]) - exact[t], t)):
        counts[t] += min(sizes[t] - counts[t], total - sum(counts))
    return counts


@dataclass(kw_only=True)
class VCAST(BeforeLLM):
    """Budgets of frames by the curvature of their path, tokens by difference from the frame and by norm.

    Frame t of T has the tokens ``x[t, n]``, n of N; R is the share to keep, min-max within a frame::

        z_t   = mean_n x[t, n] / norm
        c_t   = 1 - cos(z_t - z_{t-1}, z_{t+1} - z_t),  c = 1 at both ends
        w     = softmax(c / temperature)
        k_t   = min_per_frame + w_t (B - T min_per_frame),  B = round(T N R),  none above N
        score = (1 - cos(x[t, n], z_t)) + minmax_t(|x[t, n]|)
        keep    the k_t largest of every frame, in their original order

    Neither the question nor any attention is read. An image is a video of one frame.

    Parameters
    ----------
    keep : float or int
        R, of the patches of each video (or image), or tokens per video.
    temperature : float
        Of the softmax over curvatures; larger is more even.
    min_per_frame : int
        Least tokens of a frame, where the budget reaches that far.
    leftover : {"largest_remainder", "official"}
        Who gets what rounding down leaves: the frames of largest fraction one each, or, as in the code, the first
        of them until it is full, then the next.
    scope : {"image", "row"}
        One selection per video (or image), or one for all visual tokens of a prompt, whose images are then frames.

    Notes
    -----
    Source: arXiv 2603.27650; its code is for Qwen3-VL at batch 1. Differences: any family and batch; images; the budget
    is exact even below one token per frame; frames of several sizes; fp32, ties to the lower token.
    """

    name: ClassVar[str] = "vcast"
    summary: ClassVar[str] = "frames by the curvature of the video's path, tokens by difference and norm (baseline)"
    paper: ClassVar[str] = "2603.27650"
    temperature: float = 0.7
    min_per_frame: int = 1
    leftover: Literal["largest_remainder", "official"] = "largest_remainder"
    scope: Literal["image", "row"] = "image"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number >= 1e-6", lambda v: v >= 1e-6, "temperature")
        check_range(self, "a number of tokens >= 0", lambda v: v >= 0, "min_per_frame")

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Share the budget over the frames, then keep the tokens that stand out in each."""
        rows, k = view.patches, view.patch_budget
        if k >= len(rows):
            return Selection(with_structure(rows, view.role, self.newlines))
        frame = frame_of_tokens(view)[rows].unique(return_inverse=True)[1]
        sizes = torch.bincount(frame)
        score, frames = standing_out(view.features[rows], frame, sizes)
        weights = torch.softmax(curvature(frames) / self.temperature, 0)
        counts = allocate(k, weights, sizes.tolist(), self.min_per_frame, self.leftover)
        scores = torch.full((view.n,), torch.nan, dtype=score.dtype, device=score.device)
        scores[rows] = score
        kept = rows[best_of_frames(score, frame, counts)]
        return Selection(with_structure(kept, view.role, self.newlines), scores=scores)


def standing_out(features: Tensor, frame: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Difference from the own frame plus norm within it [N], and the unit vectors of the frames [T, D]."""
    unit = unit_rows(features)
    wide = features.detach().to(unit.dtype)
    frames = unit_rows(frame_means(wide, frame, sizes))
    unlike = 1 - torch.cat([(unit[i] * frames[frame[i]]).sum(1) for i in torch.arange(len(unit)).split(4096)])
    norm = wide.norm(dim=1)
    low = torch.full_like(frames[:, 0], torch.inf).scatter_reduce(0, frame, norm, "amin")
    high = torch.full_like(low, -torch.inf).scatter_reduce(0, frame, norm, "amax")
    return unlike + (norm - low[frame]) / (high - low + EPS)[frame], frames
