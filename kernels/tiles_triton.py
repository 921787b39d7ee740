"""Device functions that several kernels share."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl


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
    left, right, rows, columns, row_ok, column_ok, depth, row_n, column_n, stride_d,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Scalar products of a tile of rows with a tile of columns, [ROWS, COLUMNS] fp32, fp32 inputs in full precision."""
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, depth, BLOCK_D):
        d = (start + tl.arange(0, BLOCK_D)).to(tl.int64)
        inside = d < depth
        a = tl.load(
            left + rows[:, None] * row_n + d[None, :] * stride_d, mask=row_ok[:, None] & inside[None, :], other=0.0
        )
        at = right + columns[None, :] * column_n + d[:, None] * stride_d
        b = tl.load(at, mask=column_ok[None, :] & inside[:, None], other=0.0)
        total = exact_dot(a, b, total, WIDEN)
    return total
