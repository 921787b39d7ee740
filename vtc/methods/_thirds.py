"""Budgets of VFlowOpt: three ratios over three thirds of the decoder."""

from __future__ import annotations

from typing import NamedTuple


class Ratios(NamedTuple):
    """Shares of the visual tokens that stay before the decoder, and of those that are left at its two cuts."""

    r1: float
    r2: float
    r3: float


class Tuned(NamedTuple):
    """Released parameters of one budget: mean share over layers, t, alpha, cell side, ratios."""

    keep: float
    t: float
    alpha: float
    cell: float
    ratios: Ratios


def thirds(layers: int) -> tuple[int, int, int]:
    """Layers behind the projector's cut, the first and the second cut: the first two get ``layers // 3`` each."""
    third = layers // 3
    return third, third, layers - 2 * third


def mean_share(ratios: Ratios, layers: int) -> float:
    """Visual tokens averaged over the layers, as a share."""
    a, b, c = thirds(layers)
    return ratios.r1 * (a + ratios.r2 * b + ratios.r2 * ratios.r3 * c) / layers


def solve_last(r1: float, r2: float, budget: float, layers: int) -> float:
    """Third ratio that spends the budget exactly; outside (0, 1] when none does."""
    a, b, c = thirds(layers)
    return (layers * budget - r1 * a - r1 * r2 * b) / (c * r1 * r2)


def solve_first(budget: float, r2: float, r3: float, layers: int) -> Ratios:
    """Ratios whose mean is ``budget``: the first is solved; if it would exceed 1, the third grows, then the second."""
    a, b, c = thirds(layers)
    r1 = layers * budget / (a + r2 * (b + r3 * c))
    if r1 <= 1:
        return Ratios(r1, r2, r3)
    r3 = solve_last(1.0, r2, budget, layers)
    if r3 <= 1:
        return Ratios(1.0, r2, r3)
    return Ratios(1.0, min(1.0, (layers * budget - a) / (b + c)), 1.0)
