"""Greedy diversity: pick rows one after another so that each is as unlike the picked ones as possible.

One operator serves max-sum diversification (ToDRE) and farthest-first traversal (k-center, DivPrune):
:func:`vtc.kernels.greedy_diverse`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.kernels import Objective, greedy_diverse

from .select import first_best, require_finite

__all__ = ["Objective", "Spread", "greedy_spread", "most_isolated", "unit_rows"]


@dataclass(frozen=True)
class Spread:
    """Result of :func:`greedy_spread`.

    Parameters
    ----------
    order : LongTensor [K]
        Rows in the order of the picks.
    values : Tensor [K - 1]
        Sum (``max_sum``) or maximum (``k_center``) of cosines to the earlier picks, at each pick after the
        first.
    final : Tensor [N]
        The same number for every row at the end; picked rows hold ``inf``.
    """

    order: Tensor
    values: Tensor
    final: Tensor


def unit_rows(x: Tensor, centered: bool = False) -> Tensor:
    """Scale rows to length one, in fp32 (fp64 stays) and without gradient.

    Zero rows stay zero, so that their cosine to everything is 0.

    Parameters
    ----------
    x : Tensor [N, D]
    centered : bool
        Subtract the mean row first.

    Raises
    ------
    ValueError
        ``x`` holds NaN or Inf.
    """
    x = x.detach()
    require_finite(x, "The features of the visual tokens")
    x = x if x.dtype == torch.float64 else x.float()
    if centered:
        x = x - x.mean(0)
    # dividing by the largest entry first keeps the sum of squares of any bf16 row inside the range of fp32
    top = x.abs().amax(1, keepdim=True)
    x = x / torch.where(top > 0, top, 1.0)
    return x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)


def most_isolated(unit: Tensor, block: int = 1024) -> Tensor:
    """Find the row whose nearest other row is farthest by cosine (0-d index); ties go to the lower index.

    Only the blocks on and above the diagonal are computed, ``block * N`` similarities at a time.
    """
    nearest = torch.full((unit.shape[0],), -torch.inf, dtype=unit.dtype, device=unit.device)
    for start in range(0, unit.shape[0], block):
        similarity = unit[start : start + block] @ unit[start:].T
        similarity.diagonal().fill_(-torch.inf)
        rows, columns = nearest[start : start + block], nearest[start:]
        torch.maximum(rows, similarity.amax(1), out=rows)
        torch.maximum(columns, similarity.amax(0), out=columns)
    return nearest.argmin()


def greedy_spread(
    unit: Tensor, k: int, first: int | Tensor, objective: Objective, weight: Tensor | None = None
) -> Spread:
    """Pick ``k`` rows, starting from ``first``, each the one least similar to those before.

    Parameters
    ----------
    unit : Tensor [N, D]
        Unit rows, see :func:`unit_rows`.
    k : int
        ``1 <= k <= N``.
    first : int or 0-d LongTensor
    objective : {"max_sum", "k_center"}
        Least sum, or least maximum, of cosines. Ties go to the lower index.
    weight : Tensor [N], optional
        Non-negative, for "k_center": the next pick is the row of largest ``weight * (1 - maximum)``.

    Returns
    -------
    Spread

    Raises
    ------
    ValueError
        ``k`` is out of range, or weights for "max_sum".
    """
    n = unit.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} is not allowed: pick at least 1 and at most all {n} rows.")
    start = torch.as_tensor(first, device=unit.device).reshape(1)
    if weight is not None:
        if objective != "k_center":
            raise ValueError("Weights are defined for objective='k_center' only.")
        return _weighted(unit, k, start, weight.to(unit))
    picks = greedy_diverse(unit[None], k, start, objective=objective, normalized=True)
    return Spread(picks.order[0], picks.value[0, 1:], picks.final[0])


def _weighted(unit: Tensor, k: int, first: Tensor, weight: Tensor) -> Spread:
    """Farthest-first traversal with a weight per row; cosines of the picks alone, ``k * N`` of them."""
    order = torch.empty(k, dtype=torch.long, device=unit.device)
    values = torch.empty(k - 1, dtype=unit.dtype, device=unit.device)
    nearest = torch.full((len(unit),), -torch.inf, dtype=unit.dtype, device=unit.device)
    pick = first[0]
    for t in range(k):
        if t:
            # a weight of zero makes a product of zero, which is not the same as having been picked
            score = (weight * (1 - nearest)).index_fill(0, order[:t], -torch.inf)
            pick = first_best(score)
            values[t - 1] = nearest[pick]
        order[t] = pick
        nearest = torch.maximum(nearest, unit @ unit[pick])
    return Spread(order, values, nearest.index_fill(0, order, torch.inf))
