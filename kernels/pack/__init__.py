"""Ragged gather of everything a decoder layer takes along: hidden rows, rotary tables, position ids, masks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .._dispatch import launching_on, use_triton
from .._ragged import require_shape
from .naive import pack_mask_torch, pack_torch


def pack_rows(tensors: Sequence[Tensor], index: Tensor, dims: Sequence[int] | int = 1) -> list[Tensor]:
    """Gather the same columns from several tensors in one launch.

    Parameters
    ----------
    tensors : sequence of Tensor
        Any dtypes and strides. Tensor i has its columns (L) along ``dims[i]`` and the batch along ``dims[i] - 1``; a
        batch of one is broadcast. Hidden rows [B, L, D], rotary tables [1, L, d], 2-D masks and ids [B, L] have dim 1,
        M-RoPE tables and ids [3, B, L, ...] dim 2.
    index : LongTensor [B, K]
        Old column of every new one, 0 <= index < L (not checked on a GPU); padding points at some real column.
    dims : int or sequence of int

    Returns
    -------
    list of Tensor
        ``L`` replaced by ``K``, a broadcast batch expanded, contiguous.

    Raises
    ------
    ValueError
        For shapes that do not fit.
    """
    require_shape(index, (None, None), "index")
    where = [dims] * len(tensors) if isinstance(dims, int) else list(dims)
    if len(where) != len(tensors):
        raise ValueError(f"dims has {len(where)} entries for {len(tensors)} tensors.")
    for x, dim in zip(tensors, where, strict=True):
        if not 1 <= dim < x.ndim or x.shape[dim - 1] not in (1, index.shape[0]):
            raise ValueError(
                f"A tensor of shape {tuple(x.shape)} has no batch of {index.shape[0]} or 1 at dim {dim - 1}, "
                f"before its columns at dim {dim}."
            )
    if tensors and use_triton(*tensors, index) and index.numel() and all(x.numel() for x in tensors):
        from .triton import pack_rows_triton

        with launching_on(index):
            return pack_rows_triton(list(tensors), index, where)
    return [pack_torch(x, index, dim) for x, dim in zip(tensors, where, strict=True)]


def pack_mask(mask: Tensor, index: Tensor, valid: Tensor | None = None, past: int = 0) -> Tensor:
    """Gather a prepared 4-D mask on queries and on new keys.

    Parameters
    ----------
    mask : Tensor [B or 1, H, L, past + L]
        Boolean (True = seen) or additive float, any strides.
    index : LongTensor [B, K]
        Old column of every new one; padding points at some real column.
    valid : BoolTensor [B, K], optional
        Which new columns are real. Padding columns are hidden from real queries, and a padding query sees itself, so
        that its softmax is no NaN.
    past : int
        Cached keys before the new ones; kept as they are.

    Returns
    -------
    Tensor [B, H, K, past + K], contiguous

    Raises
    ------
    ValueError
        For shapes that do not fit.
    """
    require_shape(mask, (None, None, None, None), "mask")
    if mask.shape[0] not in (1, index.shape[0]) or mask.shape[3] != past + mask.shape[2]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; needed: [{index.shape[0]} or 1, H, L, {past} + L].")
    if valid is not None:
        require_shape(valid, tuple(index.shape), "valid")
    if use_triton(mask, index, valid) and mask.numel() and index.numel():
        from .triton import pack_mask_triton

        with launching_on(mask):
            return pack_mask_triton(mask, index, valid, past)
    return pack_mask_torch(mask, index, valid, past)
