"""Rows of numbers that float32 sums exactly."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

exact_row = st.tuples(st.sampled_from([1, 4, 16]), st.integers(0, 2**16 - 1), st.integers(0, 15))


def exact_rows(data, n):
    rows = torch.zeros(n, 16)
    for i, (count, signs, shift) in enumerate(data.draw(st.lists(exact_row, min_size=n, max_size=n))):
        for j in range(count):
            rows[i, (shift + j) % 16] = 1.0 if signs >> j & 1 else -1.0
    return rows
