"""Triton side of :func:`vtc.kernels.pack_rows` and :func:`vtc.kernels.pack_mask`.

``new[.., b, i, ..] = old[.., b, index[b, i], ..]`` for every tensor of a layer in one launch, and
``new[b, h, i, j] = old[b, h, index[b, i], index[b, j]]`` with padding closed for a mask. Any dtypes (bool as bytes)
and strides in; contiguous out.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._ragged import closing_values, power_of_two


@triton.jit
def pack_kernel(
    sources, targets, strides, outers, widths, index, batch, kept, ROWS: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Program (i, b): a tile of new columns of row b, from every tensor of the tuple, seen as [outer, B, L, width]."""
    row = tl.program_id(1).to(tl.int64)
    slot = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    slot_ok = slot < kept
    column = tl.load(index + row * kept + slot, mask=slot_ok, other=0)
    for i in tl.static_range(len(sources)):
        for outer in range(outers[i]):
            source = sources[i] + strides[i][0] * outer + row * strides[i][1]
            target = targets[i] + (row + outer * batch) * kept * widths[i]
            for start in range(0, widths[i], BLOCK_D):
                d = (start + tl.arange(0, BLOCK_D)).to(tl.int64)
                inside = slot_ok[:, None] & (d < widths[i])[None, :]
                at = source + column[:, None] * strides[i][2] + d[None, :] * strides[i][3]
                x = tl.load(at, mask=inside, other=0)
                tl.store(target + slot[:, None] * widths[i] + d[None, :], x, mask=inside)


@triton.jit
def mask_kernel(
    mask, target, index, valid, heads, kept, past, mask_b, mask_h, mask_q, mask_k, shut, seen,
    RAGGED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Program (j, i, b * h): a tile of new queries and keys."""
    row = (tl.program_id(2) // heads).to(tl.int64)
    head = (tl.program_id(2) % heads).to(tl.int64)
    query = (tl.program_id(1) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    key = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    query_ok = query < kept
    key_ok = key < past + kept
    new = key_ok & (key >= past)
    index += row * kept
    old_query = tl.load(index + query, mask=query_ok, other=0)
    old_key = tl.where(new, past + tl.load(index + key - past, mask=new, other=0), key)
    inside = query_ok[:, None] & key_ok[None, :]
    at = mask + row * mask_b + head * mask_h + old_query[:, None] * mask_q + old_key[None, :] * mask_k
    x = tl.load(at, mask=inside, other=0)
    if RAGGED:
        blank = tl.zeros([ROWS, COLUMNS], tl.float32)
        valid += row * kept
        query_real = tl.load(valid + query, mask=query_ok, other=0) != 0
        key_real = tl.load(valid + key - past, mask=new, other=1) != 0
        x = tl.where(query_real[:, None] & (key_real == 0)[None, :], (blank + shut).to(x.dtype), x)
        own = (key - past)[None, :] == query[:, None]
        x = tl.where(own & (query_real == 0)[:, None], (blank + seen).to(x.dtype), x)
    tl.store(target + ((row * heads + head) * kept + query[:, None]) * (past + kept) + key[None, :], x, mask=inside)


def pack_rows_triton(tensors: list[Tensor], index: Tensor, dims: list[int]) -> list[Tensor]:
    """Launch the kernel; arguments and results as in :func:`vtc.kernels.pack_rows`."""
    batch, kept = index.shape
    views = [_four_axes(x, dim, batch) for x, dim in zip(tensors, dims, strict=True)]
    targets = [x.new_empty(x.shape[0], batch, kept, x.shape[3]) for x in views]
    rows = power_of_two(kept, 1, 4)
    pack_kernel[(triton.cdiv(kept, rows), batch)](
        tuple(views),
        tuple(targets),
        tuple(x.stride() for x in views),
        tuple(x.shape[0] for x in views),
        tuple(x.shape[3] for x in views),
        index.to(torch.int64).contiguous(),
        batch,
        kept,
        ROWS=rows,
        BLOCK_D=power_of_two(max(x.shape[3] for x in views), 16, 1024),
    )
    shaped = []
    for x, y, dim in zip(tensors, targets, dims, strict=True):
        y = y.view(torch.bool) if x.dtype == torch.bool else y
        shaped.append(y.view(*x.shape[: dim - 1], batch, kept, *x.shape[dim + 1 :]))
    return shaped


def _four_axes(x: Tensor, dim: int, batch: int) -> Tensor:
    """View as [outer, B, L, width]; bool becomes bytes, which is what the kernel can move."""
    x = x.view(torch.uint8) if x.dtype == torch.bool else x
    outer, columns = x.shape[: dim - 1], x.shape[dim]
    x = x.expand(*outer, batch, *x.shape[dim:])
    # reshape copies only when leading or trailing axes cannot be joined by stride
    joined = x.reshape(-1, batch, columns, *x.shape[dim + 1 :]) if dim != 2 else x
    return joined.reshape(joined.shape[0], batch, columns, -1)


def pack_mask_triton(mask: Tensor, index: Tensor, valid: Tensor | None, past: int) -> Tensor:
    """Launch the kernel; arguments and result as in :func:`vtc.kernels.pack.naive.pack_mask_torch`."""
    (batch, kept), heads = index.shape, mask.shape[1]
    shut, seen = closing_values(mask.dtype)
    source = mask.view(torch.uint8) if mask.dtype == torch.bool else mask
    source = source.expand(batch, -1, -1, -1)
    target = source.new_empty(batch, heads, kept, past + kept)
    index = index.to(torch.int64).contiguous()
    rows, columns = power_of_two(kept, 1, 8), power_of_two(past + kept, 16, 256)
    mask_kernel[(triton.cdiv(past + kept, columns), triton.cdiv(kept, rows), batch * heads)](
        source, target, index, valid.contiguous().view(torch.uint8) if valid is not None else index,
        heads, kept, past, *source.stride(), shut, seen,
        RAGGED=valid is not None, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip
    return target.view(mask.dtype)
