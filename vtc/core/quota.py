"""Tokens per frame in proportion to squared scores, and the grid a number of tokens makes (QuoTA, arXiv 2503.08689)."""

from __future__ import annotations

import math
from bisect import bisect_left

import torch
from torch import Tensor

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


def cap_as_published(weights: Tensor, most: Tensor) -> Tensor:
    """Clip weights at ``most`` and hand the excess on, frame by frame, as the published code does.

    Saturated frames count in the share of the others and the excess only grows, so the sum ends below 1 and the result
    depends on the order of the frames; :func:`fill` loses nothing.

    Parameters
    ----------
    weights, most : Tensor [T] fp64

    Returns
    -------
    Tensor [T] fp64
    """
    limits = most.tolist()
    shares, excess = [], 0.0
    for share, limit in zip(weights.tolist(), limits, strict=True):
        excess += max(0.0, share - limit)
        shares.append(min(share, limit))
    if excess == 0.0:
        return weights
    total = sum(shares)
    for i, limit in enumerate(limits):
        if shares[i] < limit:
            raised = shares[i] + shares[i] / total * excess
            excess += max(0.0, raised - limit)
            shares[i] = min(raised, limit)
    return torch.tensor(shares, dtype=torch.float64)


def fill(weights: Tensor, budget: int, least: Tensor, most: Tensor) -> Tensor:
    """Water-filling: ``clip(level * w_i, least_i, most_i)`` with the level at which they sum to the budget.

    Parameters
    ----------
    weights : Tensor [T] fp64
    budget : int
    least, most : Tensor [T]
        Bounds in tokens, ``least <= most``, ``least.sum() <= budget``.

    Returns
    -------
    Tensor [T] fp64
        Sums to ``budget``, or to less when every frame with a positive weight is full.
    """
    least, most = least.double(), most.double()
    # tokens as a function of the level are piecewise linear; between two bends one division finds the level
    bends = torch.cat([least / weights, most / weights])
    bends = bends[bends.isfinite()].unique()

    def total(bend: int) -> float:
        return float((bends[bend] * weights).clamp(least, most).sum())

    behind = bisect_left(range(len(bends)), float(budget), key=total)
    if behind in (0, len(bends)):  # the lower bounds take it all, or every frame is full
        level = bends[min(behind, len(bends) - 1)]
    else:
        low, high = total(behind - 1), total(behind)
        level = bends[behind - 1] + (budget - low) / (high - low) * (bends[behind] - bends[behind - 1])
    return (level * weights).clamp(least, most)


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


def token_grid(count: int, height: int, width: int, cap: bool = True) -> tuple[int, int]:
    """Rows and columns that ``count`` tokens make of a frame of ``height`` x ``width``; never more than ``count``.

    For square frames ``(a + 1, a)`` or ``(a, a)`` with ``a = isqrt(count)``, as published; for others the same by
    aspect ratio. ``cap`` keeps the grid within the frame; without it a frame may be up-sampled.
    """
    if count <= 0:
        return 0, 0
    if cap and count >= height * width:
        return height, width
    rows, cols = math.isqrt(count * height // width), math.isqrt(count * width // height)
    if rows == 0:
        rows, cols = 1, (min(count, width) if cap else count)
    elif cols == 0:
        rows, cols = (min(count, height) if cap else count), 1
    if (rows + 1) * cols <= count and not (cap and rows >= height):
        return rows + 1, cols
    if rows * (cols + 1) <= count and not (cap and cols >= width):
        return rows, cols + 1
    return rows, cols
