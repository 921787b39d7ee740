"""Tokens per frame in proportion to squared scores (QuoTA, arXiv 2503.08689)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .capping import cap_as_published, fill

GUARD = 1e-9
"""Repairs weights that float noise put one unit in the last place below a whole number of tokens. Not to be widened:
3135.99999988 of a one-hot video is a genuine value."""


def frame_weights(scores: Tensor, exponent: float = 2.0, sizes: Tensor | None = None) -> Tensor:
    """Share of the budget of every frame: ``(100 s)^exponent``, normalised.

    Parameters
    ----------
    scores : Tensor [T]
        Finite and non-negative. All zero counts as all equal.
    exponent : float
        Contrast: 2 as published, 1 proportional, 0 uniform.
    sizes : Tensor [T] or None
        Native tokens per frame; frames of different sizes are weighted by them, so that equal scores keep equal shares
        (ours: the frames of the paper are of one size).

    Returns
    -------
    Tensor [T] fp64, sum 1
    """
    scores = scores.double()
    top = float(scores.max())
    if top == 0.0:
        scores, top = torch.ones_like(scores), 1.0
    # a power of two changes no digit, and keeps squares of tiny or huge scores in range
    raised = (100.0 * (scores / math.ldexp(0.5, math.frexp(top)[1]))) ** exponent
    if sizes is not None and bool((sizes != sizes[0]).any()):
        raised = raised * sizes.double()
    return raised / raised.sum()


def whole_tokens(tokens: Tensor) -> Tensor:
    """Round down, with :data:`GUARD` against float noise: LongTensor [T]. What is left over is not handed on."""
    return (tokens + GUARD).floor().long()


def assign(
    scores: Tensor, sizes: Tensor, budget: int, cap: str, most: Tensor, least: int = 0, exponent: float = 2.0
) -> list[int]:
    """Tokens of every frame.

    Parameters
    ----------
    scores : Tensor [T]
        Finite and non-negative.
    sizes : LongTensor [T]
        Native tokens per frame.
    budget : int
    cap : {"none", "official", "fill"}
    most : LongTensor [T]
        Limit of each frame, for the two latter.
    least : int
        Lower bound per frame, by water-filling.
    exponent : float

    Returns
    -------
    list of int
        Sums to at most ``budget`` and to at least 1.
    """
    weights = frame_weights(scores, exponent, sizes)
    if cap == "none":
        most = torch.full_like(sizes, budget)
    if cap == "fill" or least:
        tokens = fill(weights, budget, most.clamp_max(least), most)
    else:
        tokens = budget * (cap_as_published(weights, most.double() / budget) if cap == "official" else weights)
    counts = whole_tokens(tokens)
    if not bool(counts.any()):
        counts[(weights * most).argsort(descending=True, stable=True)[:budget]] = 1
    return counts.tolist()


def least_tokens(asked: int | None, apart: bool, cap: str, budget: int, frames: int) -> int:
    """Least tokens of a frame: as asked, else 1 where text stands between the frames and the budget allows it, else 0.

    Raises
    ------
    ValueError
        More is asked for than the budget holds.
    """
    if asked is None:
        return int(apart and cap != "official" and budget >= frames)
    if asked * frames > budget:
        raise ValueError(
            f"min_tokens={asked} for {frames} frames is more than the budget of {budget} tokens; raise "
            "keep or lower min_tokens."
        )
    return asked


def resolve_cap(asked: str, free: bool) -> str:
    """Limit of a frame as asked; "auto" is none where frames are ``free`` to outgrow their native size.

    Raises
    ------
    ValueError
        No limit, and they are not.
    """
    if asked == "none" and not free:
        raise ValueError(
            "cap='none' lets frames outgrow their native size, which needs operator 'bilinear' and a family whose "
            "frames can be read before pooling (LLaVA-OneVision); use cap='fill' or 'auto' here."
        )
    return ("none" if free else "fill") if asked == "auto" else asked
