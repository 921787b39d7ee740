"""Triton side of :mod:`vtc.kernels.topk`."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._dispatch import program_target
from ._ragged import power_of_two
from .tiles_triton import ordered_key

# three counts share one int64 reduction, 21 bits each
MAX_COLUMNS = 1 << 21


@triton.jit
def kth_key(scores, stride, n, k, BLOCK: tl.constexpr):
    """Find the largest key that at least ``k`` of the first ``n`` scores reach, two bits per pass."""
    top = tl.full((), 0, tl.int64)
    one = tl.full((), 1, tl.int64)
    for step in range(16):
        shift = 30 - 2 * step
        unit = one << shift
        found = tl.zeros([BLOCK], tl.int64)
        for start in range(0, n, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < n
            key = ordered_key(tl.load(scores + column.to(tl.int64) * stride, mask=inside, other=0.0))
            key = tl.where(inside, key, -1)
            found += (key >= top + unit).to(tl.int64)
            found += (key >= top + 2 * unit).to(tl.int64) << 21
            found += (key >= top + 3 * unit).to(tl.int64) << 42
        total = tl.sum(found, 0)
        digit = ((total & 0x1FFFFF) >= k).to(tl.int64)
        digit += (((total >> 21) & 0x1FFFFF) >= k).to(tl.int64)
        digit += ((total >> 42) >= k).to(tl.int64)
        top += digit * unit
    return top


@triton.jit
def counts_before(scores, stride, n, top, low, BLOCK: tl.constexpr):
    """Count the keys above ``top`` in the row, and those above and equal to it left of column ``low``."""
    found = tl.zeros([BLOCK], tl.int64)
    for start in range(0, n, BLOCK):
        column = start + tl.arange(0, BLOCK)
        inside = column < n
        key = ordered_key(tl.load(scores + column.to(tl.int64) * stride, mask=inside, other=0.0))
        key = tl.where(inside, key, -1)
        left = column < low
        found += (key > top).to(tl.int64)
        found += ((key > top) & left).to(tl.int64) << 21
        found += ((key == top) & left).to(tl.int64) << 42
    total = tl.sum(found, 0)
    return total & 0x1FFFFF, (total >> 21) & 0x1FFFFF, total >> 42


@triton.jit
def copy_rows(source, target, rows, slots, wanted, width, stride_n, stride_d, BLOCK_D: tl.constexpr):
    """Copy the wanted rows of a tile to their slots."""
    for start in range(0, width, BLOCK_D):
        depth = (start + tl.arange(0, BLOCK_D)).to(tl.int64)
        inside = wanted[:, None] & (depth < width)[None, :]
        x = tl.load(source + rows[:, None] * stride_n + depth[None, :] * stride_d, mask=inside, other=0)
        tl.store(target + slots[:, None] * width + depth[None, :], x, mask=inside)


@triton.jit
def clear_rows(target, slots, wanted, width, TILE: tl.constexpr, BLOCK_D: tl.constexpr):
    """Write zeros to the wanted slots."""
    for start in range(0, width, BLOCK_D):
        depth = (start + tl.arange(0, BLOCK_D)).to(tl.int64)
        inside = wanted[:, None] & (depth < width)[None, :]
        zeros = tl.zeros([TILE, BLOCK_D], target.dtype.element_ty)
        tl.store(target + slots[:, None] * width + depth[None, :], zeros, mask=inside)


@triton.jit
def topk_kernel(
    scores,
    count,
    valid,
    features,
    positions,
    index_out,
    features_out,
    positions_out,
    span,
    slots,
    batch,
    depth,
    axes,
    score_b,
    score_n,
    feature_b,
    feature_n,
    feature_d,
    position_p,
    position_b,
    position_n,
    HAS_FEATURES: tl.constexpr,
    HAS_POSITIONS: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Program (g, b) owns columns [g * span, (g + 1) * span) of row b and a share of its empty slots."""
    row = tl.program_id(1).to(tl.int64)
    low = tl.program_id(0) * span
    n = tl.load(valid + row)
    k = tl.load(count + row)
    scores += row * score_b
    top = kth_key(scores, score_n, n, k, BLOCK)
    above, before, ties = counts_before(scores, score_n, n, top, low, BLOCK)
    need = k - above
    for start in range(low, low + span, TILE):
        column = start + tl.arange(0, TILE)
        inside = (column < n) & (column < low + span)
        key = ordered_key(tl.load(scores + column.to(tl.int64) * score_n, mask=inside, other=0.0))
        greater = (inside & (key > top)).to(tl.int64)
        equal = (inside & (key == top)).to(tl.int64)
        rank = ties + tl.cumsum(equal, 0)
        kept = (greater != 0) | ((equal != 0) & (rank <= need))
        slot = before + tl.cumsum(greater, 0) + tl.minimum(rank, need) - 1
        before += tl.sum(greater, 0)
        ties += tl.sum(equal, 0)
        source = column.to(tl.int64)
        # slots from k on are empty; there are at most as many as columns, so every program clears its own share
        clear = k + source
        empty = (clear < slots) & (column < low + span)
        tl.store(index_out + row * slots + slot, source, mask=kept)
        tl.store(index_out + row * slots + clear, tl.full([TILE], -1, tl.int64), mask=empty)
        if HAS_FEATURES:
            rows_in = features + row * feature_b
            rows_out = features_out + row * slots * depth
            if tl.max(kept.to(tl.int32), 0) > 0:
                copy_rows(rows_in, rows_out, source, slot, kept, depth, feature_n, feature_d, BLOCK_D)
            if tl.max(empty.to(tl.int32), 0) > 0:
                clear_rows(rows_out, clear, empty, depth, TILE, BLOCK_D)
        if HAS_POSITIONS:
            for axis in range(axes):
                ids_in = positions + axis * position_p + row * position_b
                ids_out = positions_out + (axis * batch + row) * slots
                tl.store(ids_out + slot, tl.load(ids_in + source * position_n, mask=kept, other=0), mask=kept)
                tl.store(ids_out + clear, tl.zeros([TILE], positions.dtype.element_ty), mask=empty)


def topk_triton(
    scores: Tensor, count: Tensor, valid: Tensor, features: Tensor | None, positions: Tensor | None, width: int
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Launch the kernel; arguments and results as in :func:`vtc.kernels.topk.topk_torch`."""
    batch, columns = scores.shape
    if columns >= MAX_COLUMNS:
        raise ValueError(f"topk_select: {columns} columns; the kernel counts in 21 bits, at most {MAX_COLUMNS - 1}.")
    index = torch.empty(batch, width, dtype=torch.int64, device=scores.device)
    rows = features if features is not None else scores[..., None]
    ids = positions if positions is not None else index
    ids = ids if ids.ndim == 3 else ids[None]
    rows_out = rows.new_empty(batch, width, rows.shape[2]) if features is not None else index
    ids_out = ids.new_empty(ids.shape[0], batch, width) if positions is not None else index
    tile = 16
    # also covers the empty slots when more slots than columns were asked for
    reach = max(columns, width)
    span = triton.cdiv(triton.cdiv(reach, max(1, program_target() // batch)), tile) * tile
    topk_kernel[(triton.cdiv(reach, span), batch)](
        scores, count, valid, rows, ids, index, rows_out, ids_out, span, width, batch, rows.shape[2], ids.shape[0],
        *scores.stride(), *rows.stride(), *ids.stride(),
        HAS_FEATURES=features is not None,
        HAS_POSITIONS=positions is not None,
        BLOCK=power_of_two(columns, 64, 4096),
        TILE=tile,
        BLOCK_D=power_of_two(rows.shape[2], 16, 256),
        num_warps=8,
    )  # fmt: skip
    if positions is not None and positions.ndim == 2:
        ids_out = ids_out[0]
    return index, count, rows_out if features is not None else None, ids_out if positions is not None else None
