"""VidCom2: unusual frames get more tokens, unusual tokens stay (arXiv 2505.14454).

Specification
-------------
Let ``x[t, m]`` be the projected tokens of a video, frame t of T, token m of ``M_t``, and cos the cosine (fp32).
Neither the question nor any attention is read::

    g     = mean of all x                       what the video looks like as a whole
    g_t   = mean over m of x[t, m]              what frame t looks like
    a     = cos(x[t, m], g)                     likeness to the video
    b     = cos(x[t, m], g_t)                   likeness to its own frame

    u_t   = - mean over m of a                  uniqueness of frame t
    p_t   = softmax over t of u_t / temperature
    k_t   ~ M_t (1 + p_t - 1/T)                 budget of frame t, scaled so that all add up to K
    score = - a - b                             uniqueness of a token across the video and within its frame
    keep    the k_t tokens of largest score of every frame, in their original order

K is the budget of the library (``keep`` of the video's patches). The shares ``K k_t / sum k`` are cut at ``M_t``, what
full frames cannot take goes to the others in the same proportion, and fractions are rounded by largest remainder, so
that the budgets add up to K exactly. Ties go to the lower token and the earlier frame. An image, whatever its tiles, is
a video of one frame, of which the tokens least like the mean token stay; a video of one frame is the same.

This is an implementation from the description of the paper; its code was not consulted. Uncertain: the temperature
(0.01 as remembered; a small one gives nearly all of the extra share ``1/T`` to the most unusual frame), whether
likenesses are plain cosines everywhere or pass through a kernel first, how much frames below the mean may lose (here at
most ``1/T`` of their even share), and how the published code rounds and clips budgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.diversity import unit_rows
from ..core.select import Newlines, topk_indices, with_structure
from ..core.stage import ModelFacts, Projector, Selection, Stage, View
from ._diverse import candidate_count
from .base import Method, check_range


def frame_of_tokens(view: View) -> Tensor:
    """Frame of every token, numbered in order from 0: the frames of every video, and every image as one: [N]."""
    video = torch.tensor([unit.modality == "video" for unit in view.units], device=view.unit.device)
    part = torch.where(video[view.unit], view.part, 0)
    return (view.unit * (int(part.max()) + 1) + part).unique(return_inverse=True)[1]


def share_out(total: int, weights: Tensor, sizes: Tensor) -> Tensor:
    """Whole shares of ``total`` in proportion to ``weights``, none above its size, that add up exactly.

    Parameters
    ----------
    total : int
        At most the sum of ``sizes``.
    weights : Tensor [T], positive
    sizes : LongTensor [T]

    Returns
    -------
    LongTensor [T], CPU
    """
    weights, sizes = weights.double().cpu(), sizes.cpu()
    shares = torch.zeros_like(weights)
    free = torch.ones_like(sizes, dtype=torch.bool)
    while bool(free.any()):
        shares[free] = (total - float(sizes[~free].sum())) * weights[free] / weights[free].sum()
        over = free & (shares > sizes)
        if not bool(over.any()):
            break
        shares[over] = sizes[over].double()
        free &= ~over
    whole = torch.minimum((shares + 1e-9).floor().long(), sizes)
    order = (whole - shares).masked_fill(whole >= sizes, torch.inf).sort(stable=True).indices
    whole[order[: total - int(whole.sum())]] += 1
    return whole


@dataclass(kw_only=True)
class VidCom2(Method):
    """Tokens of a video by the uniqueness of frames and tokens; see the module for the specification.

    Parameters
    ----------
    keep : float or int
        Share of the patches of each video (or image), or tokens per video.
    temperature : float
        Of the softmax over the uniqueness of frames; larger is more even.
    scope : {"image", "row"}
        One selection per video (or image), or one for all visual tokens of a prompt, whose images are then frames like
        those of a video.
    newlines : {"drop", "keep"}
        Row separators; kept ones come on top of the budget.
    positions : {"renumber", "keep"}
        1-D position ids after pruning. M-RoPE always keeps them.
    """

    name: ClassVar[str] = "vidcom2"
    summary: ClassVar[str] = "frames by uniqueness, tokens by uniqueness in frame and video (baseline)"
    paper: ClassVar[str] = "2505.14454"
    temperature: float = 0.01
    scope: Literal["image", "row"] = "image"
    newlines: Newlines = "drop"
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number >= 1e-6", lambda v: v >= 1e-6, "temperature")

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, without needs."""
        return [
            Stage(
                at=Projector(),
                select=self.select,
                keep_count=self.keep_count,
                scope=self.scope,
                positions=self.positions,
            )
        ]

    def select(self, view: View) -> Selection:
        """Share the budget over the frames, then keep the most unusual tokens of each."""
        rows, k = view.patches, candidate_count(view)
        if k >= len(rows):
            return Selection(with_structure(rows, view.role, self.newlines))
        frame = frame_of_tokens(view)[rows].unique(return_inverse=True)[1]
        sizes = torch.bincount(frame)
        like_video, like_frame = likenesses(view.features[rows], frame, sizes)
        scores = like_video.new_full((view.n,), torch.nan)
        scores[rows] = -like_video - like_frame
        uniqueness = -_frame_means(like_video[:, None], frame, sizes)[:, 0]
        extra = torch.softmax(uniqueness / self.temperature, 0) - 1 / len(sizes)
        budgets = share_out(k, sizes * (1 + extra), sizes).tolist()
        members = [rows[frame == t] for t in range(len(sizes))]
        kept = torch.cat([m[topk_indices(scores[m], b)] for m, b in zip(members, budgets, strict=True)])
        return Selection(with_structure(kept, view.role, self.newlines), scores=scores)


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
    means = _frame_means(wide, frame, sizes)
    own = unit_rows(means)
    like_frame = torch.empty(len(unit), dtype=unit.dtype, device=unit.device)
    for rows in torch.arange(len(unit), device=unit.device).split(4096):
        like_frame[rows] = (unit[rows] * own[frame[rows]]).sum(1)
    return unit @ unit_rows(wide.mean(0, keepdim=True))[0], like_frame


def _frame_means(values: Tensor, frame: Tensor, sizes: Tensor) -> Tensor:
    sums = torch.zeros(len(sizes), values.shape[1], dtype=values.dtype, device=values.device)
    return sums.index_add_(0, frame, values) / sizes[:, None]
