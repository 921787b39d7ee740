"""Weighted means of groups of tokens, and the merge of dropped tokens into their nearest kept one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._dispatch import launching_on, use_triton
from .._ragged import Counts, require_shape, row_counts
from ..assign import assign_nearest
from .naive import means_torch, shares_torch


class Merged(NamedTuple):
    """Result of a merge.

    Attributes
    ----------
    values : Tensor [B, G, D]
        Weighted mean of every group, in the dtype of the input; zeros for empty groups.
    groups : LongTensor [B, N]
        Group of every token, -1 = in none.
    """

    values: Tensor
    groups: Tensor


def merge_tokens(
    x: Tensor, index: Tensor, weights: Tensor | None = None, n: Counts = None, count: Counts = None
) -> Merged:
    """Give every dropped token to its nearest kept token by cosine and average each group.

    Parameters
    ----------
    x : Tensor [B, N, D]
        fp32, bf16 or fp16, accumulated in fp32, or fp64; any strides.
    index : LongTensor [B, K]
        Kept columns of each row, all different, left-aligned.
    weights : Tensor [B, N], optional
        See :func:`group_means`; kept tokens have one as well.
    n, count : int, sequence of int or Tensor [B], optional
        Valid columns of each row, and valid entries of each row of ``index``; default all.

    Returns
    -------
    Merged
        ``values[b, j]`` replaces token ``index[b, j]``. Ties of the cosine go to the lower entry of ``index``.

    Raises
    ------
    ValueError
        For shapes or counts that do not fit.
    """
    require_shape(x, (None, None, None), "x")
    batch, columns, depth = x.shape
    require_shape(index, (batch, None), "index")
    kept = row_counts(count, batch, index.shape[1], x.device, "count")
    groups = assign_nearest(x, x.gather(1, index[..., None].expand(-1, -1, depth)), n, kept)
    # a kept token belongs to itself, whatever rounding says or an equal one before it; a spare column takes the rest
    slot = torch.arange(index.shape[1], device=x.device)
    place = torch.where(slot < kept[:, None], index, columns)
    groups = torch.nn.functional.pad(groups, (0, 1)).scatter_(1, place, slot.expand_as(place))[:, :columns]
    return group_means(x, groups, weights, index.shape[1])


def group_means(x: Tensor, groups: Tensor, weights: Tensor | None, count: int) -> Merged:
    """Average the tokens of each of ``count`` groups.

    Parameters
    ----------
    x : Tensor [B, N, D]
        fp32, bf16 or fp16, accumulated in fp32, or fp64; any strides.
    groups : LongTensor [B, N]
        Group of every token, below ``count``; -1 = in none.
    weights : Tensor [B, N] or None
        A group whose weights sum to at most 1e-12 takes the plain mean. None: all one.
    count : int
        Number of groups G.

    Returns
    -------
    Merged

    Raises
    ------
    ValueError
        For shapes that do not fit.
    """
    require_shape(x, (None, None, None), "x")
    require_shape(groups, tuple(x.shape[:2]), "groups")
    if weights is not None:
        require_shape(weights, tuple(x.shape[:2]), "weights")
    if use_triton(x, weights, groups) and groups.numel() and count:
        from .triton import group_means_triton

        with launching_on(x):
            return Merged(group_means_triton(x, groups, weights, count), groups)
    return Merged(means_torch(x, groups, weights, count), groups)


def group_shares(groups: Tensor, weights: Tensor, count: int) -> Tensor:
    """Share of every token in its group, as :func:`group_means` weighs it (plain torch everywhere: there is no depth).

    Parameters
    ----------
    groups : LongTensor [B, N]
    weights : Tensor [B, N]
    count : int

    Returns
    -------
    Tensor [B, N], fp32 (fp64 stays)
        1 per group in sum, 0 for tokens in none.

    Raises
    ------
    ValueError
        For shapes that do not fit.
    """
    require_shape(groups, (None, None), "groups")
    require_shape(weights, tuple(groups.shape), "weights")
    return shares_torch(groups, weights, count)
