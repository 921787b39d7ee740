"""Greedy MAP of a determinantal point process: the rows that span the largest volume (arXiv 1709.05135, 2506.10967)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .select import first_best

RANK = 1e-7
"""A gain below this share of the first is rounding noise: all directions are spanned."""


@dataclass(frozen=True)
class Volume:
    """Result of :func:`greedy_map`.

    Parameters
    ----------
    order : LongTensor [K]
        Rows in the order of the picks.
    gains : Tensor [K]
        Squared length of what each pick added, 0 for those that only fill up.
    rank : int
        Picks that added something; the others are the rest of largest weight.
    """

    order: Tensor
    gains: Tensor
    rank: int


def greedy_map(unit: Tensor, weight: Tensor, k: int) -> Volume:
    """Pick ``k`` rows greedily for the determinant of ``L = diag(weight) S diag(weight)``, ``S`` the cosines.

    A pivoted Cholesky factorisation of which only the columns of the picks exist: ``k * N`` numbers, never N x N.

    Parameters
    ----------
    unit : Tensor [N, D]
        Unit rows, see :func:`vtc.core.diversity.unit_rows`.
    weight : Tensor [N]
        Non-negative.
    k : int
        ``1 <= k <= N``.

    Raises
    ------
    ValueError
        ``k`` is out of range.
    """
    n = len(unit)
    if not 1 <= k <= n:
        raise ValueError(f"k={k} is not allowed: pick at least 1 and at most all {n} rows.")
    weight = weight.to(unit)
    # the diagonal exactly, not as computed: its rounding would decide the first pick where weights are equal
    left = weight.square()
    factor = torch.zeros(k, n, dtype=unit.dtype, device=unit.device)
    order = torch.empty(k, dtype=torch.long, device=unit.device)
    gains = torch.empty(k, dtype=unit.dtype, device=unit.device)
    for t in range(k):
        pick = first_best(left)
        order[t], gains[t] = pick, left[pick]
        row = weight[pick] * weight * (unit @ unit[pick])
        row = row - factor[:t, pick] @ factor[:t]
        factor[t] = row / left[pick].clamp_min(torch.finfo(unit.dtype).tiny).sqrt()
        left = left - factor[t].square()
        left[order[: t + 1]] = -torch.inf
    return _filled(order, gains, weight)


def _filled(order: Tensor, gains: Tensor, weight: Tensor) -> Volume:
    """Replace picks behind the rank, which rounding chose, by the rest of largest weight."""
    spanned = (gains > RANK * gains[0]).long().cumprod(0).bool()
    rank = int(spanned.sum())
    if rank < len(order):
        rest = torch.ones_like(weight, dtype=torch.bool)
        rest[order[:rank]] = False
        others = rest.nonzero(as_tuple=True)[0]
        ranked = others[weight[others].sort(descending=True, stable=True).indices]
        order = torch.cat([order[:rank], ranked[: len(order) - rank]])
        gains = gains.masked_fill(~spanned, 0)
    return Volume(order, gains, rank)
