"""Greedy facility location: pick columns one after another so that every row of a table is covered as well as can be.

Row j is covered by the best picked column, ``m_j = max A[j, p]``; a column's gain is ``sum_j max(0, A[j, i] - m_j)``. A
pick changes m at some rows J only, and gains fall by what those rows lose::

    gain_i -= sum_{j in J} clip(A[j, i], m_j, A[j, p]) - m_j

which is exact, needs the rows of J alone and adds up to about five tables in all, where the published codes read the
table anew at every pick. The table itself is never held: its rows are made when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .select import first_best

BLOCK = 1 << 22  # entries of a table that exist at a time


class Table(Protocol):
    """Similarities A [M, N] of what is to be covered to what may be picked."""

    shape: tuple[int, int]

    def rows(self, index: Tensor) -> Tensor:
        """Rows [J, N]."""

    def column(self, pick: Tensor) -> Tensor:
        """Column [M]."""


class Cosines:
    """Cosines of unit rows [N, D] to each other."""

    def __init__(self, unit: Tensor) -> None:
        self.unit, self.shape = unit, (len(unit), len(unit))

    def rows(self, index: Tensor) -> Tensor:
        """Rows [J, N]."""
        return self.unit[index] @ self.unit.T

    def column(self, pick: Tensor) -> Tensor:
        """Column [N]."""
        return self.unit @ self.unit[pick]


class Softmaxes:
    """Softmax over the columns of ``cos(queries, keys) / temperature``, every row times ``scale``."""

    def __init__(self, queries: Tensor, keys: Tensor, temperature: float, scale: float) -> None:
        self.queries, self.keys, self.temperature, self.scale = queries, keys, temperature, scale
        self.shape = len(queries), len(keys)
        blocks = torch.arange(len(queries), device=keys.device).split(_height(self.shape[1]))
        self.log_sum = torch.cat([(self._logits(rows)).logsumexp(1) for rows in blocks])

    def _logits(self, rows: Tensor) -> Tensor:
        return self.queries[rows] @ self.keys.T / self.temperature

    def rows(self, index: Tensor) -> Tensor:
        """Rows [J, N]."""
        return (self._logits(index) - self.log_sum[index, None]).exp() * self.scale

    def column(self, pick: Tensor) -> Tensor:
        """Column [M]."""
        return (self.queries @ self.keys[pick] / self.temperature - self.log_sum).exp() * self.scale


class Stacked:
    """Tables over the same columns, one above the other."""

    def __init__(self, *tables: Table) -> None:
        self.tables = tables
        self.shape = sum(t.shape[0] for t in tables), tables[0].shape[1]

    def rows(self, index: Tensor) -> Tensor:
        """Rows [J, N], in the order of the tables; ``index`` ascends."""
        parts, start = [], 0
        for table in self.tables:
            inside = index[(index >= start) & (index < start + table.shape[0])]
            parts.append(table.rows(inside - start))
            start += table.shape[0]
        return torch.cat(parts)

    def column(self, pick: Tensor) -> Tensor:
        """Column [M]."""
        return torch.cat([table.column(pick) for table in self.tables])


@dataclass(frozen=True)
class Cover:
    """Result of :func:`greedy_cover`.

    Parameters
    ----------
    order : LongTensor [K]
    values : Tensor [K]
        Score of each pick, NaN for one that was given.
    covered : Tensor [M]
        How well each row is covered in the end.
    """

    order: Tensor
    values: Tensor
    covered: Tensor


Score = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``score(gain [N], covered [M], free bool [N]) -> [N]``: the largest of the free ones is picked."""


def greedy_cover(table: Table, k: int, score: Score, first: Tensor | None = None) -> Cover:
    """Pick ``k`` columns, each the one of largest score; ties go to the lower index.

    Parameters
    ----------
    table : Table
    k : int
        ``1 <= k <= N``.
    score : callable
    first : 0-d LongTensor, optional
        Given first pick, whose column is then the start of the cover; without one the cover starts at 0.

    Raises
    ------
    ValueError
        ``k`` is out of range.
    """
    height, n = table.shape
    if not 1 <= k <= n:
        raise ValueError(f"k={k} is not allowed: pick at least 1 and at most all {n} columns.")
    probe = table.rows(torch.arange(1))
    order = torch.empty(k, dtype=torch.long, device=probe.device)
    values = torch.full((k,), torch.nan, dtype=torch.float64, device=probe.device)
    free = torch.ones(n, dtype=torch.bool, device=probe.device)
    covered = torch.zeros(height, dtype=probe.dtype, device=probe.device)
    if first is not None:
        order[0], free[first] = first, False
        covered = table.column(first).clone()
    gain = _gains(table, covered)
    for t in range(0 if first is None else 1, k):
        scores = score(gain, covered, free).double().masked_fill(~free, -torch.inf)
        pick = first_best(scores)
        order[t], values[t] = pick, scores[pick]
        free[pick] = False
        _cover(table, table.column(pick), covered, gain)
    return Cover(order, values, covered)


def _gains(table: Table, covered: Tensor) -> Tensor:
    """Gain of every column, in double precision: later steps subtract from it."""
    gain = torch.zeros(table.shape[1], dtype=torch.float64, device=covered.device)
    for rows in torch.arange(table.shape[0], device=covered.device).split(_height(table.shape[1])):
        gain += (table.rows(rows) - covered[rows, None]).clamp_min(0).sum(0, dtype=torch.float64)
    return gain


def _cover(table: Table, column: Tensor, covered: Tensor, gain: Tensor) -> None:
    """Take in a picked column: in place, since only some rows change."""
    better = (column > covered).nonzero(as_tuple=True)[0]
    for rows in better.split(_height(table.shape[1])):
        old, new = covered[rows, None], column[rows, None]
        gain -= (table.rows(rows).clamp(old, new) - old).sum(0, dtype=torch.float64)
    covered[better] = column[better]


def _height(width: int) -> int:
    return max(1, BLOCK // max(1, width))
