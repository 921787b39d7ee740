"""Merging operators: weighted means of groups of rows, accumulated in fp32."""

from __future__ import annotations

import torch
from torch import Tensor


def grouped_mean(x: Tensor, groups: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weighted mean of the rows of every group.

    Parameters
    ----------
    x : Tensor [N, D]
    groups : LongTensor [N]
        Group of each row, -1 = in none.
    weights : Tensor [N]
        Non-negative weights; a group whose weights sum to zero takes the plain mean.
    count : int
        Number of groups K.

    Returns
    -------
    Tensor [K, D], dtype of ``x``
    """
    shares = group_shares(groups, weights, count)
    inside = groups >= 0
    out = torch.zeros(count, x.shape[1], dtype=shares.dtype, device=x.device)
    out.index_add_(0, groups[inside], x[inside].to(shares.dtype) * shares[inside, None])
    return out.to(x.dtype)


def group_shares(groups: Tensor, weights: Tensor, count: int) -> Tensor:
    """Normalise weights inside each group: ``[N]`` fp32 (fp64 stays), 1 per group in sum, 0 where ``groups`` is -1."""
    weights = weights if weights.dtype == torch.float64 else weights.float()
    inside = groups >= 0
    index = groups.clamp_min(0)
    total = torch.zeros(count, dtype=weights.dtype, device=weights.device)
    total.index_add_(0, groups[inside], weights[inside])
    size = torch.zeros_like(total).index_add_(0, groups[inside], torch.ones_like(weights[inside]))
    empty = total <= 1e-12
    share = torch.where(empty[index], 1.0 / size[index].clamp_min(1), weights / total[index].clamp_min(1e-12))
    return share * inside
