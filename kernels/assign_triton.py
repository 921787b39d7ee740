"""Triton side of the nearest-kept-token search of :mod:`vtc.kernels.merge`."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._dispatch import interpreting, program_target, tile_limit
from ._ragged import power_of_two
from .tiles_triton import ordered_key, product_tile

EPSILON = 1e-12
LOWEST = tl.constexpr(-(2**63))


@triton.jit
def assign_kernel(
    keys, scale, index, valid, kept, best, columns, slots, depth, split, key_b, key_n, key_d,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (i, s, b): the best of share s of the kept tokens for a tile of tokens.

    Cosine and reversed slot are packed into one integer, so a maximum settles ties as well.
    """
    row = tl.program_id(2).to(tl.int64)
    n = tl.load(valid + row)
    k = tl.load(kept + row)
    token = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    token_ok = token < n
    keys += row * key_b
    low = tl.program_id(1) * split
    record = tl.full([ROWS], LOWEST, tl.int64)
    for start in range(low, tl.minimum(low + split, k), COLUMNS):
        slot = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        slot_ok = (slot < k) & (slot < low + split)
        anchor = tl.load(index + row * slots + slot, mask=slot_ok, other=0)
        product = product_tile(
            keys, keys, token, anchor, token_ok, slot_ok, depth, key_n, key_n, key_d, ROWS, COLUMNS, BLOCK_D, WIDEN
        )
        unit = tl.load(scale + row * columns + anchor, mask=slot_ok, other=0.0)
        packed = ((ordered_key(product * unit[None, :]) - 2147483648) << 32) + (2147483647 - slot)[None, :]
        packed = tl.where(slot_ok[None, :], packed, LOWEST)
        # a kept token belongs to itself, whatever the rounding says
        packed = tl.where(
            slot_ok[None, :] & (anchor[None, :] == token[:, None]), 9223372036854775807 - slot[None, :], packed
        )
        record = tl.maximum(record, tl.max(packed, 1))
    share = row * tl.num_programs(1) + tl.program_id(1)
    tl.store(best + share * columns + token, tl.where(token_ok, record, LOWEST), mask=token < columns)


def assign_triton(keys: Tensor, index: Tensor, valid: Tensor, kept: Tensor) -> Tensor:
    """Launch the search; arguments and result as in :func:`vtc.kernels.merge.assign_torch`."""
    batch, columns, depth = keys.shape
    slots = index.shape[1]
    # the reference divides by the length before the product, the kernel after it: one rounding apart
    scale = torch.linalg.vector_norm(keys, dim=-1, dtype=torch.float32).clamp_min_(EPSILON).reciprocal_()
    rows = power_of_two(columns, 16, tile_limit(64))
    tiles = triton.cdiv(columns, rows) * batch
    width = power_of_two(slots, 16, tile_limit(64))
    split = triton.cdiv(triton.cdiv(slots, width), max(1, program_target() // tiles)) * width
    shares = triton.cdiv(slots, split)
    best = torch.empty(batch, shares, columns, dtype=torch.int64, device=keys.device)
    assign_kernel[(triton.cdiv(columns, rows), shares, batch)](
        keys, scale, index.contiguous(), valid, kept, best, columns, slots, depth, split, *keys.stride(),
        ROWS=rows, COLUMNS=width, BLOCK_D=power_of_two(depth, 16, 32 if keys.dtype == torch.float32 else 64),
        WIDEN=interpreting(),
    )  # fmt: skip
    record = best.amax(1)
    return torch.where(record == LOWEST.value, -1, 2147483647 - (record & 0x7FFFFFFF))
