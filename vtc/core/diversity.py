"""Greedy diversity: pick rows one after another so that each is as unlike the picked ones as possible.

One operator serves max-sum diversification (ToDRE) and farthest-first traversal (k-center, DivPrune):
:func:`vtc.kernels.greedy_diverse`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.kernels import Objective, greedy_diverse

from .select import require_finite

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


def greedy_spread(unit: Tensor, k: int, first: int | Tensor, objective: Objective) -> Spread:
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

    Returns
    -------
    Spread

    Raises
    ------
    ValueError
        ``k`` is out of range.
    """
    n = unit.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} is not allowed: pick at least 1 and at most all {n} rows.")
    start = torch.as_tensor(first, device=unit.device).reshape(1)
    picks = greedy_diverse(unit[None], k, start, objective=objective, normalized=True)
    return Spread(picks.order[0], picks.value[0, 1:], picks.final[0])
