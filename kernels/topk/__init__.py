"""Top-k tokens of every row of a ragged batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._dispatch import launching_on, use_triton
from .._ragged import Counts, common_width, require_shape, row_counts
from .naive import topk_torch


@dataclass(frozen=True)
class TopK:
    """Kept tokens, left-aligned.

    Attributes
    ----------
    index : LongTensor [B, K]
        Kept columns in ascending order, -1 after the last.
    count : Tensor [B], int32
        Kept columns of each row.
    """

    index: Tensor
    count: Tensor


def topk_select(scores: Tensor, k: Counts, n: Counts = None) -> TopK:
    """Keep the ``k`` best tokens of every row, in their old order; equal scores go to the lower column.

    Parameters
    ----------
    scores : Tensor [B, N]
        fp32, bf16 or fp16, compared in fp32, or fp64; any strides. NaN counts as -inf, -0.0 equals 0.0.
    k : int, sequence of int or Tensor [B]
        Tokens to keep; more than there are keeps all. A tensor on a GPU is read back once.
    n : int, sequence of int or Tensor [B], optional
        Valid columns of each row (the first n); default all.

    Returns
    -------
    TopK

    Raises
    ------
    ValueError
        For shapes or counts that do not fit.
    TypeError
        For counts that are no integers.

    Notes
    -----
    The kernel finds the k-th largest key by radix search and never sorts; every program repeats that search (it is
    far cheaper than a second launch) and then writes the kept ones of its own columns.
    """
    require_shape(scores, (None, None), "scores")
    batch, columns = scores.shape
    count = row_counts(k, batch, columns, scores.device, "k")
    valid = None if n is None else row_counts(n, batch, columns, scores.device, "n")
    if valid is not None:
        count = torch.minimum(count, valid)
    width = common_width(count, k, columns)
    if use_triton(scores) and count.numel() and columns:
        from .triton import topk_triton

        with launching_on(scores):
            return TopK(topk_triton(scores, count, valid, width), count)
    even = n is None and isinstance(k, int)
    return TopK(topk_torch(scores, None if even else count, valid, width), count)
