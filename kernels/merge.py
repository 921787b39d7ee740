"""Weighted means of groups of tokens: nearest kept token by cosine, or cells of a grid."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ._dispatch import launching_on, use_triton
from ._ragged import Counts, require_shape, row_counts

EPSILON = 1e-12
# rows compared with all kept tokens at a time in the reference
CHUNK = 1024


class Merged(NamedTuple):
    """Result of a merge.

    Attributes
    ----------
    values : Tensor [B, G, D]
        Weighted mean of every group, in the dtype of the input; zeros for empty groups.
    groups : LongTensor [B, N]
        Group of every token, -1 = in none.
    heaviest : LongTensor [B, G]
        Column of the member with the largest weight (ties: the lower column), -1 for empty groups.
    """

    values: Tensor
    groups: Tensor
    heaviest: Tensor


def merge_tokens(
    x: Tensor,
    index: Tensor,
    weights: Tensor | None = None,
    n: Counts = None,
    count: Counts = None,
    keys: Tensor | None = None,
) -> Merged:
    """Give every dropped token to its nearest kept token by cosine and average each group.

    Parameters
    ----------
    x : Tensor [B, N, D]
        fp32, bf16 or fp16, any strides; accumulated in fp32.
    index : LongTensor [B, K]
        Kept columns of each row, all different, left-aligned.
    weights : Tensor [B, N], optional
        Non-negative weights, kept tokens included; a group whose weights sum to less than 1e-12 takes the plain mean.
        Default: all one.
    n, count : int, sequence of int or Tensor [B], optional
        Valid columns of each row, and valid entries of each row of ``index``; default all.
    keys : Tensor [B, N, E], optional
        What is compared, when it is not ``x`` itself (attention keys, say).

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
    batch, columns = x.shape[:2]
    require_shape(index, (batch, None), "index")
    keys = x if keys is None else keys
    require_shape(keys, (batch, columns, None), "keys")
    valid = row_counts(n, batch, columns, x.device, "n")
    kept = row_counts(count, batch, index.shape[1], x.device, "count")
    if use_triton(keys, index) and columns and index.numel():
        from .assign_triton import assign_triton

        with launching_on(keys):
            groups = assign_triton(keys, index, valid, kept)
    else:
        groups = assign_torch(keys, index, valid, kept)
    return group_means(x, groups, weights, index.shape[1])


def recycle_cells(x: Tensor, cells: Tensor, weights: Tensor, count: int) -> Merged:
    """Average the tokens of every cell of a grid, as VFlowOpt (arXiv 2508.05211, section 3) recycles dropped tokens.

    Parameters
    ----------
    x : Tensor [B, N, D]
    cells : LongTensor [B, N]
        Cell of every dropped token, -1 for tokens that take no part.
    weights : Tensor [B, N]
        Importance; the paper's code divides 0 by 0 where a cell has none, here such a cell takes the plain mean.
    count : int
        Number of cells G.

    Returns
    -------
    Merged
        ``heaviest`` is the slot whose position the recycled token takes.
    """
    return group_means(x, cells, weights, count)


def group_means(x: Tensor, groups: Tensor, weights: Tensor | None, count: int) -> Merged:
    """Weighted mean of each of ``count`` groups and its heaviest member; see :class:`Merged`.

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
        from .merge_triton import group_means_triton

        with launching_on(x):
            values, heaviest = group_means_triton(x, groups, weights, count)
    else:
        values, heaviest = group_means_torch(x, groups, weights, count)
    return Merged(values, groups, heaviest)


def assign_torch(keys: Tensor, index: Tensor, valid: Tensor, kept: Tensor) -> Tensor:
    """Reference of the assignment: groups [B, N]; compares ``CHUNK`` rows with all kept ones at a time."""
    batch, columns, _ = keys.shape
    groups = torch.full((batch, columns), -1, dtype=torch.long, device=keys.device)
    wide = keys if keys.dtype == torch.float64 else keys.float()
    for row, (n, k) in enumerate(zip(valid.tolist(), kept.tolist(), strict=True)):
        if not k:
            continue
        chosen = index[row, :k]
        anchors = torch.nn.functional.normalize(wide[row, chosen], dim=-1, eps=EPSILON)
        for start in range(0, n, CHUNK):
            stop = min(start + CHUNK, n)
            # the length of the token itself does not move the maximum
            groups[row, start:stop] = (wide[row, start:stop] @ anchors.T).argmax(1)
        groups[row, chosen] = torch.arange(k, device=keys.device)
        groups[row, n:] = -1
    return groups


def group_means_torch(x: Tensor, groups: Tensor, weights: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """Reference of the means: values [B, G, D] and heaviest [B, G]."""
    batch, columns, depth = x.shape
    kind = torch.float64 if x.dtype == torch.float64 else torch.float32
    mass = torch.ones(batch, columns, dtype=kind, device=x.device) if weights is None else weights.to(kind)
    inside = groups >= 0
    # one spare group swallows the tokens in none
    flat = (torch.where(inside, groups, count) + torch.arange(batch, device=x.device)[:, None] * (count + 1)).flatten()
    total = mass.new_zeros(batch * (count + 1)).index_add_(0, flat, mass.flatten())
    size = torch.zeros_like(total).index_add_(0, flat, torch.ones_like(mass).flatten())
    share = torch.where(total[flat] <= EPSILON, 1 / size[flat], mass.flatten() / total[flat].clamp_min(EPSILON))
    values = mass.new_zeros(batch * (count + 1), depth)
    values.index_add_(0, flat, x.to(kind).flatten(0, 1) * share[:, None])
    best = torch.full_like(total, -torch.inf).scatter_reduce_(0, flat, mass.flatten(), "amax")
    column = torch.arange(columns, device=x.device).expand(batch, columns).flatten()
    column = torch.where(mass.flatten() == best[flat], column, columns)
    heaviest = torch.full_like(flat[:1], columns).expand(total.shape[0]).clone()
    heaviest.scatter_reduce_(0, flat, column, "amin")
    heaviest = torch.where(heaviest == columns, -1, heaviest)
    return values.view(batch, count + 1, depth)[:, :count].to(x.dtype), heaviest.view(batch, count + 1)[:, :count]
