"""Bootstrap intervals of accuracies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

REPEATS = 1000


def interval(values: Sequence[bool], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile interval of the mean of ``values`` under resampling of the questions."""
    right = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(right), size=(REPEATS, len(right)))
    return _percentiles(right[drawn].mean(1), level)


def ratio_interval(
    values: Sequence[bool], base: Sequence[bool], level: float = 0.95, seed: int = 0
) -> tuple[float, float] | None:
    """Percentile interval of mean(values) / mean(base), the same questions drawn for both.

    Draws in which no base answer is right are left out; None where there is no other.
    """
    right, reference = np.asarray(values, dtype=np.float64), np.asarray(base, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(len(right), size=(REPEATS, len(right)))
    above, below = right[drawn].mean(1), reference[drawn].mean(1)
    ratios = above[below > 0] / below[below > 0]
    return _percentiles(ratios, level) if len(ratios) else None


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
