"""What the greedy diversity methods share: their budget, and scores that make their picks visible."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.diversity import Objective, Spread
from ..core.layout import Role
from ..core.stage import View


def candidate_count(view: View) -> int:
    """Tokens to keep of the patches of a view: the budget of every image, added up."""
    units = view.unit[view.role == Role.PATCH]
    return sum(view.keep_count(int(n)) for n in torch.bincount(units).tolist() if n)


def spread_scores(spread: Spread, rows: Tensor, n: int, objective: Objective) -> Tensor:
    """Scores [N] for pictures: picked rows in (1, 2] by order, others in [0, 1] by distance, else NaN."""
    k = len(spread.order)
    mean = spread.final / k if objective == "max_sum" else spread.final
    local = ((1 - mean) / 2).clamp(0, 1)
    local[spread.order] = 2 - torch.arange(k, device=local.device, dtype=local.dtype) / k
    scores = torch.full((n,), torch.nan, dtype=local.dtype, device=local.device)
    scores[rows] = local
    return scores
