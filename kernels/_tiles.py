"""Device functions, and one preparation on the host, that several kernels share."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def ordered_key(x):
    """Map floats to int64 keys in [0, 2**32) of the same order; NaN becomes -inf and -0.0 becomes 0.0."""
    x = x.to(tl.float32)
    x = tl.where(x == x, x, float("-inf"))
    x = tl.where(x == 0.0, 0.0, x)
    bits = x.to(tl.int32, bitcast=True)
    # negative floats: flip all bits; positive ones: flip the sign; then read as unsigned
    signed = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return signed.to(tl.int64) + 2147483648


@triton.jit
def exact_dot(a, b, total, WIDEN: tl.constexpr):
    """Add ``a @ b`` to ``total`` in fp32 without tf32 rounding.

    ``WIDEN`` is for the CPU interpreter, whose product of bf16 tiles reads the raw bits as integers.
    """
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, acc=total, input_precision="ieee")


@triton.jit
def product_tile(
    left, right, rows, columns, row_ok, column_ok, depth, row_n, row_d, column_n, column_d,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Scalar products of a tile of rows with a tile of columns, [ROWS, COLUMNS] fp32, fp32 inputs in full precision."""
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, depth, BLOCK_D):
        d = (start + tl.arange(0, BLOCK_D)).to(tl.int64)
        inside = d < depth
        a_at = left + rows[:, None] * row_n + d[None, :] * row_d
        b_at = right + columns[None, :] * column_n + d[:, None] * column_d
        a = tl.load(a_at, mask=row_ok[:, None] & inside[None, :], other=0.0)
        b = tl.load(b_at, mask=column_ok[None, :] & inside[:, None], other=0.0)
        total = exact_dot(a, b, total, WIDEN)
    return total


def inverse_lengths(x: Tensor, normalized: bool) -> Tensor:
    """1 / |x| of the rows of x [B, N, D], fp32 [B, N], at most 1e12; all ones where they have length one already."""
    if normalized:
        return torch.ones(x.shape[:2], dtype=torch.float32, device=x.device)
    return torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32).clamp_min_(1e-12).reciprocal_()
