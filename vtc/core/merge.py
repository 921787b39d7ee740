"""Merging operators: who merges into whom, and weighted means of groups of rows, accumulated in fp32."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.kernels import group_means, merge_tokens
from vtc.kernels._dispatch import use_triton

from .select import require_finite


def assign_nearest(rows: Tensor, targets: Tensor, chunk: int = 4096) -> Tensor:
    """Index of the target with the largest cosine to each row; ties go to the lower target.

    Parameters
    ----------
    rows : Tensor [M, D]
        Unit rows, see :func:`vtc.core.diversity.unit_rows`.
    targets : Tensor [K, D]
        Unit rows, K >= 1.
    chunk : int
        Rows per block, so that at most ``chunk * K`` similarities exist at a time.

    Returns
    -------
    LongTensor [M]
    """
    if use_triton(rows, targets):
        # the kernel assigns all columns of one matrix to some of them
        index = torch.arange(len(targets), device=rows.device)[None]
        return merge_tokens(torch.cat([targets, rows])[None], index).groups[0, len(targets) :]
    found = [(block @ targets.T).argmax(1) for block in rows.split(chunk)]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=rows.device)


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

    Raises
    ------
    ValueError
        ``x`` holds NaN or Inf, which would spread over a group.
    """
    require_finite(x, "The features of the visual tokens")
    if use_triton(x, weights):
        return group_means(x[None], groups[None], weights[None], count).values[0]
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
