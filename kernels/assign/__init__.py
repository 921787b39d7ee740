"""Nearest target of every token by cosine."""

from __future__ import annotations

from torch import Tensor

from .._dispatch import launching_on, use_triton
from .._ragged import Counts, require_shape, row_counts
from .naive import assign_torch


def assign_nearest(
    rows: Tensor, targets: Tensor, n: Counts = None, count: Counts = None, *, normalized: bool = False
) -> Tensor:
    """Find the target with the largest cosine to each row; ties go to the lower target.

    Parameters
    ----------
    rows : Tensor [B, M, D]
        fp32, bf16 or fp16, accumulated in fp32, or fp64; any strides. Zero rows have cosine 0 with everything.
    targets : Tensor [B, K, D]
    n, count : int, sequence of int or Tensor [B], optional
        Valid rows and valid targets of each batch row (the first of them); default all.
    normalized : bool
        The targets have length one (or zero) already and are taken as they are. The length of a row never matters.

    Returns
    -------
    LongTensor [B, M]
        -1 for rows that are not valid or have no target.

    Raises
    ------
    ValueError
        For shapes or counts that do not fit.
    """
    require_shape(rows, (None, None, None), "rows")
    batch, columns, depth = rows.shape
    require_shape(targets, (batch, None, depth), "targets")
    valid = row_counts(n, batch, columns, rows.device, "n")
    kept = row_counts(count, batch, targets.shape[1], rows.device, "count")
    if use_triton(rows, targets) and rows.numel() and targets.numel():
        from .triton import assign_triton

        with launching_on(rows):
            return assign_triton(rows, targets, valid, kept, normalized)
    return assign_torch(rows, targets, valid, kept, normalized)
