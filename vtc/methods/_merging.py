"""Selections whose kept rows are the means of the tokens that joined them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.merge import group_shares, grouped_mean
from ..core.stage import Selection


def merge_into(features: Tensor, keep: Tensor, slot: Tensor, scores: Tensor) -> Selection:
    """Replace kept rows by the plain means of the tokens that point at them by ``slot`` (-1: dropped)."""
    groups = torch.where(slot >= 0, torch.searchsorted(keep, slot.clamp_min(0)), -1)
    weights = torch.ones(len(slot), device=features.device)
    values = grouped_mean(features, groups, weights, len(keep))
    return Selection(keep, values, scores, groups, group_shares(groups, weights, len(keep)))
