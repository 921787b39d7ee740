"""Top-k tokens of every row of a ragged batch, gathered in the same launch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._dispatch import launching_on, use_triton
from ._ragged import Counts, common_width, require_shape, row_counts


@dataclass(frozen=True)
class TopK:
    """Kept tokens, left-aligned.

    Attributes
    ----------
    index : LongTensor [B, W]
        Kept columns in ascending order, -1 after the last.
    count : Tensor [B], int32
        Kept columns of each row.
    features : Tensor [B, W, D] or None
        Gathered rows, zeros after the last.
    positions : Tensor [B, W] or [P, B, W] or None
        Gathered position ids, zeros after the last.
    """

    index: Tensor
    count: Tensor
    features: Tensor | None
    positions: Tensor | None


def topk_select(
    scores: Tensor,
    k: Counts,
    n: Counts = None,
    *,
    features: Tensor | None = None,
    positions: Tensor | None = None,
    width: int | None = None,
) -> TopK:
    """Keep the ``k`` best tokens of every row, in their old order; equal scores go to the lower column.

    Parameters
    ----------
    scores : Tensor [B, N]
        fp32, bf16 or fp16, any strides; compared in fp32. NaN counts as -inf, -0.0 equals 0.0.
    k : int, sequence of int or Tensor [B]
        Tokens to keep; more than there are keeps all.
    n : int, sequence of int or Tensor [B], optional
        Valid columns of each row (the first n); default all.
    features : Tensor [B, N, D], optional
    positions : Tensor [B, N] or [P, B, N], optional
        Position ids of any integer type; P axes for M-RoPE.
    width : int, optional
        W of the outputs, at least the largest count. Naming it spares a read-back when ``k`` is a tensor on a GPU.

    Returns
    -------
    TopK

    Raises
    ------
    ValueError
        For shapes or counts that do not fit.

    Notes
    -----
    The kernel finds the k-th largest key by radix search and never sorts; every program repeats that search (it is
    far cheaper than a second launch) and then copies the kept ones of its own columns.
    """
    require_shape(scores, (None, None), "scores")
    batch, columns = scores.shape
    if features is not None:
        require_shape(features, (batch, columns, None), "features")
    if positions is not None:
        require_shape(positions, (batch, columns) if positions.ndim == 2 else (None, batch, columns), "positions")
    valid = row_counts(n, batch, columns, scores.device, "n")
    count = torch.minimum(row_counts(k, batch, columns, scores.device, "k"), valid)
    width = common_width(count, k, width, columns)
    if use_triton(scores, features, positions) and count.numel() and columns:
        from .topk_triton import topk_triton

        with launching_on(scores):
            return TopK(*topk_triton(scores, count, valid, features, positions, width))
    return topk_torch(scores, count, valid, features, positions, width)


def topk_torch(
    scores: Tensor, count: Tensor, valid: Tensor, features: Tensor | None, positions: Tensor | None, width: int
) -> TopK:
    """Reference of :func:`topk_select` with ``count`` <= ``valid`` int32 [B]: a stable sort, then a gather."""
    batch, columns = scores.shape
    column = torch.arange(columns, device=scores.device)
    keys = scores if scores.dtype == torch.float64 else scores.float()
    keys = keys.masked_fill(keys.isnan() | (column >= valid[:, None]), -torch.inf)
    # stable: invalid columns lie right of the valid ones, so they also lose against a valid -inf
    order = keys.sort(dim=1, descending=True, stable=True).indices
    chosen = torch.where(column < count[:, None], order, columns).sort(dim=1).values
    chosen = torch.nn.functional.pad(chosen, (0, max(width - columns, 0)), value=columns)[:, :width]
    real = chosen < columns
    index = torch.where(real, chosen, -1)
    safe = index.clamp_min(0)
    if features is not None:
        rows = features.gather(1, safe[..., None].expand(-1, -1, features.shape[2])) if columns else features
        features = rows.masked_fill(~real[..., None], 0)
    if positions is not None:
        where = safe.expand(*positions.shape[:-1], -1)
        positions = positions.gather(-1, where).masked_fill(~real, 0)
    return TopK(index, count, features, positions)
