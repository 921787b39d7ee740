"""Triton side of :func:`vtc.kernels.group_means`.

``values[b, g] = sum_i w_i x_i / sum_i w_i`` over the members i of group g, or the plain mean where the weights sum to
at most 1e-12, without atomics: results do not vary from run to run. x [B, N, D] is fp32, bf16 or fp16 with any strides,
sums are fp32, values have the dtype of x. Sources: the contextual merging of VisionZip (arXiv 2412.04467) and the
recycling of VFlowOpt (arXiv 2508.05211).
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._dispatch import tile_limit
from .._ragged import power_of_two


@triton.jit
def order_kernel(groups, order, first, size, columns, count, group_b, group_n, TILE: tl.constexpr, BLOCK: tl.constexpr):
    """Sort tokens by group, stably, by counting: a token's place is the number of tokens before it.

    The first member of each group also writes where the group starts and how many it has.
    """
    row = tl.program_id(1).to(tl.int64)
    mine = tl.program_id(0) * TILE + tl.arange(0, TILE)
    mine_ok = mine < columns
    groups += row * group_b
    own = tl.load(groups + mine.to(tl.int64) * group_n, mask=mine_ok, other=-1)
    place = tl.zeros([TILE], tl.int32)
    earlier = tl.zeros([TILE], tl.int32)
    members = tl.zeros([TILE], tl.int32)
    for start in range(0, columns, BLOCK):
        other = start + tl.arange(0, BLOCK)
        there = tl.load(groups + other.to(tl.int64) * group_n, mask=other < columns, other=2147483647)
        same = there[None, :] == own[:, None]
        before = same & (other[None, :] < mine[:, None])
        place += tl.sum(((there[None, :] < own[:, None]) | before).to(tl.int32), 1)
        earlier += tl.sum(before.to(tl.int32), 1)
        members += tl.sum(same.to(tl.int32), 1)
    tl.store(order + row * columns + place, mine, mask=mine_ok)
    head = mine_ok & (own >= 0) & (own < count) & (earlier == 0)
    tl.store(first + row * count + own, place, mask=head)
    tl.store(size + row * count + own, members, mask=head)


@triton.jit
def means_kernel(
    x, weights, order, first, size, values, columns, count, depth, x_b, x_n, x_d, weight_b, weight_n,
    WEIGHTED: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Program (g, i, b): weighted and plain sum of the members of group g over a slice of the depth."""
    row = tl.program_id(2).to(tl.int64)
    group = row * count + tl.program_id(0)
    d = (tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)).to(tl.int64)
    d_ok = d < depth
    start = tl.load(first + group)
    members = tl.load(size + group)
    total = tl.zeros([BLOCK_D], tl.float32)
    plain = tl.zeros([BLOCK_D], tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    for at in range(start, start + members, ROWS):
        slot = at + tl.arange(0, ROWS)
        ok = slot < start + members
        token = tl.load(order + row * columns + slot, mask=ok, other=0)
        source = x + row * x_b + token.to(tl.int64)[:, None] * x_n + d[None, :] * x_d
        value = tl.load(source, mask=ok[:, None] & d_ok[None, :], other=0.0).to(tl.float32)
        plain += tl.sum(value, 0)
        if WEIGHTED:
            at_weight = weights + row * weight_b + token.to(tl.int64) * weight_n
            weight = tl.load(at_weight, mask=ok, other=0.0).to(tl.float32)
            total += tl.sum(value * weight[:, None], 0)
            mass += weight
    mean = plain / tl.maximum(members, 1).to(tl.float32)
    if WEIGHTED:
        whole = tl.sum(mass, 0)
        mean = tl.where(whole > 1e-12, total / tl.maximum(whole, 1e-12), mean)
    tl.store(values + group * depth + d, mean.to(values.dtype.element_ty), mask=d_ok)


def group_means_triton(x: Tensor, groups: Tensor, weights: Tensor | None, count: int) -> Tensor:
    """Launch both kernels; arguments and result as in :func:`vtc.kernels.merge.naive.means_torch`."""
    batch, columns, depth = x.shape
    order = torch.empty(batch, columns, dtype=torch.int32, device=x.device)
    first, size = torch.zeros(2, batch, count, dtype=torch.int32, device=x.device)
    tile = tile_limit(16)
    order_kernel[(triton.cdiv(columns, tile), batch)](
        groups, order, first, size, columns, count, *groups.stride(),
        TILE=tile, BLOCK=power_of_two(columns, 16, tile_limit(64)),
    )  # fmt: skip
    values = torch.empty(batch, count, depth, dtype=x.dtype, device=x.device)
    block = power_of_two(depth, 16, 1024)
    scale = weights if weights is not None else groups
    means_kernel[(count, triton.cdiv(depth, block), batch)](
        x, scale, order, first, size, values, columns, count, depth, *x.stride(), *scale.stride(),
        WEIGHTED=weights is not None, ROWS=4, BLOCK_D=block,
    )  # fmt: skip
    return values
