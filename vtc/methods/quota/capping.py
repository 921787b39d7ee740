"""Limits on the tokens of a frame, and who gets what is above them."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import Tensor


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
