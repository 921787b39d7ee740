"""Torch code of :func:`vtc.kernels.greedy_diverse`: one Gram row per pick, computed ahead in blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .._ragged import accumulator

CACHE_BYTES = 512 * 2**20
"""Most memory for Gram rows (8192 of them at N = 16384 in fp32)."""


def greedy_torch(
    x: Tensor, count: Tensor, valid: Tensor, first: Tensor, additive: bool, width: int, normalized: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Order and values [B, width] and final states [B, N] of the picks of every row.

    ``count`` and ``valid`` int32 [B] say how many tokens each row picks and has; ``additive`` chooses max_sum.
    """
    batch, columns, _ = x.shape
    unit = x.detach().to(accumulator(x))
    unit = unit if normalized else torch.nn.functional.normalize(unit, dim=-1, eps=1e-12)
    order = torch.full((batch, width), -1, dtype=torch.long, device=x.device)
    value = torch.zeros(batch, width, dtype=unit.dtype, device=x.device)
    state = torch.full((batch, columns), 0.0 if additive else -torch.inf, dtype=unit.dtype, device=x.device)
    for b, (k, n) in enumerate(zip(count.tolist(), valid.tolist(), strict=True)):
        state[b, n:] = torch.inf
        _pick(unit[b, :n], first[b : b + 1], additive, order[b, :k], value[b, :k], state[b, :n])
    return order, value, state


def _pick(unit: Tensor, pick: Tensor, additive: bool, order: Tensor, value: Tensor, state: Tensor) -> None:
    """Fill ``order`` and ``value`` [K] and raise ``state`` [N] in place, one pick after another."""
    rows = _on_device(unit) if unit.is_cuda else _Ahead(unit)
    join = torch.Tensor.add_ if additive else _raise_to
    for step in range(len(order)):
        if step:
            # argmin takes the first of equal values
            pick = state.argmin(dim=0, keepdim=True)
            value[step : step + 1] = state.index_select(0, pick)
        order[step : step + 1] = pick
        join(state, rows(pick, state)).index_fill_(0, pick, torch.inf)


def _raise_to(state: Tensor, row: Tensor) -> Tensor:
    return torch.maximum(state, row, out=state)


def _on_device(unit: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Gram rows on a GPU, where asking which row comes next would wait for the device.

    All of them at once when they fit ``CACHE_BYTES``, else one matrix-vector product per pick.
    """
    if unit.shape[0] ** 2 * unit.element_size() <= CACHE_BYTES:
        gram = unit @ unit.T
        return lambda pick, state: gram.index_select(0, pick)[0]
    return lambda pick, state: unit @ unit.index_select(0, pick)[0]


class _Ahead:
    """Gram rows of the picked row and of the likeliest next ones, computed ``size`` at a time and kept.

    A matrix product is several times faster than as many matrix-vector products, and the order of the candidates
    changes slowly: most of the rows that are computed ahead are picked later.
    """

    def __init__(self, unit: Tensor, size: int = 64) -> None:
        self.unit, self.size = unit, size
        self.most = max(size, CACHE_BYTES // max(1, unit.shape[0] * unit.element_size()))
        self.rows: dict[int, Tensor] = {}

    def __call__(self, pick: Tensor, state: Tensor) -> Tensor:
        index = int(pick)
        if index not in self.rows:
            self._compute(index, state)
        return self.rows[index]

    def _compute(self, pick: int, state: Tensor) -> None:
        if len(self.rows) + self.size > self.most:
            self.rows.clear()
        width = min(len(state), len(self.rows) + self.size)
        likely = state.topk(width, largest=False).indices.tolist()
        fresh = [pick, *(i for i in likely if i != pick and i not in self.rows)][: self.size]
        block = self.unit[torch.tensor(fresh)] @ self.unit.T
        self.rows.update(zip(fresh, block, strict=True))
