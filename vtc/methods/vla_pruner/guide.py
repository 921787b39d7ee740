"""What the next actions are expected to look at, and which tokens of two rankings stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ...core.diversity import greedy_spread, most_isolated, unit_rows
from ...core.select import topk_indices
from ...core.stage import ModelFacts
from ...core.words import shown

ActionLayers = Literal["upper_half", "middle"] | Sequence[int] | None


def estimate(history: Sequence[Tensor], gamma: float, order: Literal["paper", "code"] = "paper") -> Tensor:
    """Expected attention of the next actions: decayed mean of the last calls'.

    Parameters
    ----------
    history : sequence of Tensor [M]
        Oldest first.
    gamma : float
        Decay in (0, 1].
    order : {"paper", "code"}
        Weight gamma ** i with i = 1 for the newest call, or, as the published code has it, for the oldest.

    Returns
    -------
    Tensor [M], fp32; weights sum to 1, which changes no ranking.
    """
    rows = torch.stack([h.float() for h in history])
    weights = gamma ** torch.arange(len(rows), dtype=rows.dtype, device=rows.device)
    weights = weights.flip(0) if order == "paper" else weights
    return (weights / weights.sum()) @ rows


def union(current: Tensor, guide: Tensor, k: int) -> Tensor:
    """Tokens among the ``k`` best of either score [M]: ascending, between k and 2 k of them."""
    return torch.cat([topk_indices(current, k), topk_indices(guide, k)]).unique()


def spread(features: Tensor, k: int) -> Tensor:
    """Order [k] in which max-min selection picks rows of ``features`` [n, D] by cosine distance.

    The first is the row whose nearest other row is farthest, each next one the row farthest from those picked; ties go
    to the lower index, a zero row is at distance 1 from everything, and no row is picked twice.
    """
    unit = unit_rows(features)
    return greedy_spread(unit, k, most_isolated(unit), "k_center").order


def watched_layers(chosen: ActionLayers, facts: ModelFacts) -> tuple[int, ...]:
    """0-based layers in which the action queries are watched.

    Raises
    ------
    ValueError
        The decoder has no such layer.
    """
    depth = facts.decoder_layers
    if chosen is None:
        chosen = "middle" if facts.actions == "generated" else "upper_half"
    if chosen == "middle":
        return (max(0, depth // 2 - 1),)
    if chosen == "upper_half":
        return tuple(range(depth // 2, depth))
    layers = tuple(int(layer) for layer in chosen)
    if not layers or min(layers) < 0 or max(layers) >= depth:
        raise ValueError(f"action_layers={shown(layers)} is not allowed: this decoder has layers 0 .. {depth - 1}.")
    return layers
