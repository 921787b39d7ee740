"""Greedy diversity: pick rows one after another so that each is as unlike the picked ones as possible.

One loop serves max-sum diversification (ToDRE) and farthest-first traversal (k-center, DivPrune). It carries
one number per row, the sum or the maximum of its cosines to the picked rows, and needs one Gram row per pick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vtc.kernels import greedy_diverse
from vtc.kernels._dispatch import use_triton

from .select import require_finite

Objective = Literal["max_sum", "k_center"]

CACHE_BYTES = 512 * 2**20
"""Most memory for Gram rows (8192 of them at N = 16384 in fp32)."""


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

    Notes
    -----
    A matrix product is several times faster than as many matrix-vector products, so Gram rows are
    computed in blocks for the rows that come next if the order of the candidates stays as it is, and are kept
    for later picks. On a GPU, where asking which row comes next would wait for the device, the whole Gram
    matrix is computed when it fits ``CACHE_BYTES``, else one matrix-vector product per pick.
    """
    n = unit.shape[0]
    if not 1 <= k <= n:
        raise ValueError(f"k={k} is not allowed: pick at least 1 and at most all {n} rows.")
    if use_triton(unit):
        return _by_kernel(unit, k, torch.as_tensor(first, device=unit.device), objective)
    rows = _on_device(unit) if unit.is_cuda else _Ahead(unit)
    join = torch.Tensor.add_ if objective == "max_sum" else _raise_to
    current = torch.full((n,), 0.0 if objective == "max_sum" else -torch.inf, dtype=unit.dtype, device=unit.device)
    order = torch.empty(k, dtype=torch.long, device=unit.device)
    values = torch.empty(k, dtype=unit.dtype, device=unit.device)
    pick = torch.as_tensor(first, device=unit.device).reshape(1)
    for step in range(k):
        if step:
            pick = current.argmin(dim=0, keepdim=True)
        order[step : step + 1] = pick
        values[step : step + 1] = current.index_select(0, pick)
        join(current, rows(pick, current)).index_fill_(0, pick, torch.inf)
    return Spread(order, values[1:], current)


def _by_kernel(unit: Tensor, k: int, first: Tensor, objective: Objective) -> Spread:
    names: dict[Objective, Literal["max_sum", "max_min"]] = {"max_sum": "max_sum", "k_center": "max_min"}
    picks = greedy_diverse(unit[None], k, first.reshape(1), objective=names[objective])
    order = picks.order[0]
    if objective == "max_sum":
        final = unit @ unit[order].sum(0)
    else:
        final = torch.cat([(block @ unit[order].T).amax(1) for block in unit.split(4096)])
    return Spread(order, picks.value[0, 1:], final.index_fill(0, order, torch.inf))


def _raise_to(current: Tensor, row: Tensor) -> Tensor:
    return torch.maximum(current, row, out=current)


def _on_device(unit: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    if unit.shape[0] ** 2 * unit.element_size() <= CACHE_BYTES:
        gram = unit @ unit.T
        return lambda pick, current: gram.index_select(0, pick)[0]
    return lambda pick, current: unit @ unit.index_select(0, pick)[0]


class _Ahead:
    """Gram rows of the picked row and of the likeliest next ones, computed ``size`` at a time and kept."""

    def __init__(self, unit: Tensor, size: int = 64) -> None:
        self.unit, self.size = unit, size
        self.most = max(size, CACHE_BYTES // (unit.shape[0] * unit.element_size()))
        self.rows: dict[int, Tensor] = {}

    def __call__(self, pick: Tensor, current: Tensor) -> Tensor:
        index = int(pick)
        if index not in self.rows:
            self._compute(index, current)
        return self.rows[index]

    def _compute(self, pick: int, current: Tensor) -> None:
        if len(self.rows) + self.size > self.most:
            self.rows.clear()
        width = min(len(current), len(self.rows) + self.size)
        likely = current.topk(width, largest=False).indices.tolist()
        fresh = [pick, *(i for i in likely if i != pick and i not in self.rows)][: self.size]
        block = self.unit[torch.tensor(fresh)] @ self.unit.T
        self.rows.update(zip(fresh, block, strict=True))
