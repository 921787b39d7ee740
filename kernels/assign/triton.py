"""Triton side of :func:`vtc.kernels.assign_nearest`.

``found[b, i] = argmax_j rows[b, i] . targets[b, j] / |targets[b, j]|``, the lower j on a tie, without an [M, K] matrix.
rows [B, M, D] and targets [B, K, D] are fp32, bf16 or fp16 with any strides, products and lengths fp32, the result
int64. Source: the token merging of VisionZip, arXiv 2412.04467, which computes the whole matrix.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._dispatch import interpreting, program_target, tile_limit
from .._ragged import power_of_two
from .._tiles import inverse_lengths, ordered_key, product_tile

LOWEST = tl.constexpr(-(2**63))


@triton.jit
def assign_kernel(
    rows, targets, scale, valid, kept, best, columns, slots, depth, split, row_b, row_n, row_d, target_b, target_n,
    target_d, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (i, s, b): the best of share s of the targets for a tile of rows.

    Cosine and reversed slot are packed into one integer, so a maximum settles ties as well.
    """
    row = tl.program_id(2).to(tl.int64)
    n = tl.load(valid + row)
    k = tl.load(kept + row)
    token = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    token_ok = token < n
    rows += row * row_b
    targets += row * target_b
    scale += row * slots
    low = tl.program_id(1) * split
    record = tl.full([ROWS], LOWEST, tl.int64)
    for start in range(low, tl.minimum(low + split, k), COLUMNS):
        slot = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        slot_ok = (slot < k) & (slot < low + split)
        product = product_tile(
            rows, targets, token, slot, token_ok, slot_ok, depth, row_n, row_d, target_n, target_d,
            ROWS, COLUMNS, BLOCK_D, WIDEN,
        )  # fmt: skip
        unit = tl.load(scale + slot, mask=slot_ok, other=0.0)
        packed = ((ordered_key(product * unit[None, :]) - 2147483648) << 32) + (2147483647 - slot)[None, :]
        record = tl.maximum(record, tl.max(tl.where(slot_ok[None, :], packed, LOWEST), 1))
    share = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(best + share * columns + token, tl.where(token_ok, record, LOWEST), mask=token < columns)


def assign_triton(rows: Tensor, targets: Tensor, valid: Tensor, kept: Tensor, normalized: bool) -> Tensor:
    """Launch the search; arguments and result as in :func:`vtc.kernels.assign.naive.assign_torch`."""
    (batch, columns, depth), slots = rows.shape, targets.shape[1]
    # the torch code divides by the length before the product, the kernel after it: one rounding apart
    scale = inverse_lengths(targets, normalized)
    tall = power_of_two(columns, 16, tile_limit(64))
    tiles = triton.cdiv(columns, tall) * batch
    wide = power_of_two(slots, 16, tile_limit(64))
    split = triton.cdiv(triton.cdiv(slots, wide), max(1, program_target() // tiles)) * wide
    shares = triton.cdiv(slots, split)
    best = torch.empty(batch, shares, columns, dtype=torch.int64, device=rows.device)
    assign_kernel[(triton.cdiv(columns, tall), shares, batch)](
        rows, targets, scale, valid, kept, best, columns, slots, depth, split, *rows.stride(), *targets.stride(),
        ROWS=tall, COLUMNS=wide, BLOCK_D=power_of_two(depth, 16, 32 if rows.dtype == torch.float32 else 64),
        WIDEN=interpreting(),
    )  # fmt: skip
    record = best.amax(1)
    return torch.where(record == LOWEST.value, -1, 2147483647 - (record & 0x7FFFFFFF))
