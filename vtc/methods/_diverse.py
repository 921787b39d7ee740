"""Scores that make the picks of the greedy diversity methods visible."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.diversity import Objective, Spread


def spread_scores(spread: Spread, rows: Tensor, n: int, objective: Objective, scores: Tensor | None = None) -> Tensor:
    """Scores [N] for pictures: picked rows in (1, 2] by order, others in [0, 1] by distance; else as given, or NaN."""
    k = len(spread.order)
    mean = spread.final / k if objective == "max_sum" else spread.final
    local = ((1 - mean) / 2).clamp(0, 1)
    local[spread.order] = 2 - torch.arange(k, device=local.device, dtype=local.dtype) / k
    if scores is None:
        scores = torch.full((n,), torch.nan, dtype=local.dtype, device=local.device)
    scores[rows] = local
    return scores
