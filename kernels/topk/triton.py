"""Triton side of :func:`vtc.kernels.topk_select`.

Scores become integers of the same order (:func:`vtc.kernels._tiles.ordered_key`). Let t be the largest key that at
least k scores of a row reach. Kept are all keys above t and, from the left, as many equal to t as are still missing.
Scores [B, N] are fp32, bf16 or fp16, the index [B, K] is int64. Radix selection: Alabi et al., "Fast k-selection
algorithms for graphics processing units", ACM JEA 17 (2012).
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._dispatch import program_target
from .._ragged import power_of_two
from .._tiles import ordered_key

# three counts share one int64 reduction, 21 bits each
MAX_COLUMNS = 1 << 21


@triton.jit
def key_tile(scores, stride, start, stop, SIZE: tl.constexpr):
    """Columns from ``start`` on and the keys of their scores, -1 from ``stop`` on."""
    column = start + tl.arange(0, SIZE)
    key = ordered_key(tl.load(scores + column.to(tl.int64) * stride, mask=column < stop, other=0.0))
    return column, tl.where(column < stop, key, -1)


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
            _, key = key_tile(scores, stride, start, n, BLOCK)
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
        column, key = key_tile(scores, stride, start, n, BLOCK)
        left = column < low
        found += (key > top).to(tl.int64)
        found += ((key > top) & left).to(tl.int64) << 21
        found += ((key == top) & left).to(tl.int64) << 42
    total = tl.sum(found, 0)
    return total & 0x1FFFFF, (total >> 21) & 0x1FFFFF, total >> 42


@triton.jit
def topk_kernel(
    scores, count, valid, index, span, slots, score_b, score_n, BLOCK: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """Program (g, b) owns columns [g * span, (g + 1) * span) of row b and a share of its empty slots."""
    row = tl.program_id(1).to(tl.int64)
    low = tl.program_id(0) * span
    n = tl.load(valid + row)
    k = tl.load(count + row)
    scores += row * score_b
    index += row * slots
    top = kth_key(scores, score_n, n, k, BLOCK)
    above, before, ties = counts_before(scores, score_n, n, top, low, BLOCK)
    need = k - above
    for start in range(low, low + span, TILE):
        # -1, where there is no column, is below any top
        column, key = key_tile(scores, score_n, start, tl.minimum(n, low + span), TILE)
        greater = (key > top).to(tl.int64)
        equal = (key == top).to(tl.int64)
        rank = ties + tl.cumsum(equal, 0)
        kept = (greater != 0) | ((equal != 0) & (rank <= need))
        slot = before + tl.cumsum(greater, 0) + tl.minimum(rank, need) - 1
        before += tl.sum(greater, 0)
        ties += tl.sum(equal, 0)
        tl.store(index + slot, column.to(tl.int64), mask=kept)
        # slots from k on are empty; there are at most as many as columns, so every program clears its own share
        clear = k + column
        tl.store(index + clear, tl.full([TILE], -1, tl.int64), mask=(clear < slots) & (column < low + span))


def topk_triton(scores: Tensor, count: Tensor, valid: Tensor | None, width: int) -> Tensor:
    """Launch the kernel; arguments and result as in :func:`vtc.kernels.topk.naive.topk_torch`."""
    batch, columns = scores.shape
    if columns >= MAX_COLUMNS:
        raise ValueError(f"topk_select: {columns} columns; the kernel counts in 21 bits, at most {MAX_COLUMNS - 1}.")
    valid = torch.full_like(count, columns) if valid is None else valid
    index = torch.empty(batch, width, dtype=torch.int64, device=scores.device)
    tile = 16
    span = triton.cdiv(triton.cdiv(columns, max(1, program_target() // batch)), tile) * tile
    topk_kernel[(triton.cdiv(columns, span), batch)](
        scores, count, valid, index, span, width, *scores.stride(),
        BLOCK=power_of_two(columns, 64, 4096), TILE=tile, num_warps=8,
    )  # fmt: skip
    return index
