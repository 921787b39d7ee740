"""Triton side of :func:`vtc.kernels.token_transition`.

One pass over u and y [B, T, D] (fp32, bf16 or fp16) gives ``e_i = exp(1 - cos(u_i, y_i))`` and ``|y_i| / |u_i| * e_i``
in fp32, a second one over [B, T] divides by the sum of e. Source: TransPrune, arXiv 2507.20630, as its
published code computes it.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .._ragged import power_of_two


@triton.jit
def transition_kernel(
    u, y, valid, turn, value, tokens, depth, u_b, u_n, u_d, y_b, y_n, y_d, valid_b, valid_n,
    MASKED: tl.constexpr, ABSOLUTE: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Program (t, b): the three sums of one token in one pass over both tensors."""
    row, token = tl.program_id(1).to(tl.int64), tl.program_id(0).to(tl.int64)
    u += row * u_b + token * u_n
    y += row * y_b + token * y_n
    uu = tl.zeros([BLOCK_D], tl.float32)
    yy = tl.zeros([BLOCK_D], tl.float32)
    uy = tl.zeros([BLOCK_D], tl.float32)
    for start in range(0, depth, BLOCK_D):
        d = (start + tl.arange(0, BLOCK_D)).to(tl.int64)
        a = tl.load(u + d * u_d, mask=d < depth, other=0.0).to(tl.float32)
        b = tl.load(y + d * y_d, mask=d < depth, other=0.0).to(tl.float32)
        uu += a * a
        yy += b * b
        uy += a * b
    before = tl.sqrt(tl.sum(uu, 0))
    after = tl.sqrt(tl.sum(yy, 0))
    cosine = tl.sum(uy, 0) / (tl.maximum(before, 1e-8) * tl.maximum(after, 1e-8))
    if ABSOLUTE:
        cosine = tl.abs(cosine)
    change = tl.exp(1.0 - cosine)
    # no epsilon: a zero input has no ratio, as in the torch code
    ratio = after / before
    if MASKED:
        counted = tl.load(valid + row * valid_b + token * valid_n) != 0
        # a select, not a product: padding may hold NaN
        change = tl.where(counted, change, 0.0)
        ratio = tl.where(counted, ratio, 0.0)
    tl.store(turn + row * tokens + token, change)
    tl.store(value + row * tokens + token, ratio * change)


@triton.jit
def share_kernel(turn, value, tokens, BLOCK: tl.constexpr):
    """Program (i, b): divide a tile of values by the sum of the row, which every program adds up in the same order."""
    row = tl.program_id(1).to(tl.int64)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, tokens, BLOCK):
        token = start + tl.arange(0, BLOCK)
        total += tl.load(turn + row * tokens + token, mask=token < tokens, other=0.0)
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mine = tl.load(value + row * tokens + token, mask=token < tokens, other=0.0)
    tl.store(
        value + row * tokens + token, mine / tl.maximum(tl.sum(total, 0), 1.1754943508222875e-38), mask=token < tokens
    )


def transition_triton(u: Tensor, y: Tensor, valid: Tensor | None, absolute: bool) -> Tensor:
    """Launch both kernels; arguments and result as in :func:`vtc.kernels.transition.naive.transition_torch`."""
    batch, tokens, depth = u.shape
    turn, value = torch.empty(2, batch, tokens, dtype=torch.float32, device=u.device)
    flags = valid.view(torch.uint8) if valid is not None else turn
    transition_kernel[(tokens, batch)](
        u, y, flags, turn, value, tokens, depth, *u.stride(), *y.stride(), *flags.stride(),
        MASKED=valid is not None, ABSOLUTE=absolute, BLOCK_D=power_of_two(depth, 16, 1024),
    )  # fmt: skip
    block = power_of_two(tokens, 16, 1024)
    share_kernel[(triton.cdiv(tokens, block), batch)](turn, value, tokens, BLOCK=block)
    return value
