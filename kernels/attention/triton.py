"""Triton side of :func:`vtc.kernels.attention_stats`: launches, block sizes and strides of the two passes.

With ``s_ij = scale * q_i . k_j`` in units of log2, pass one computes ``l_i = log2 sum_j 2**s_ij`` and pass two
``received_j = mean_h sum_i w_i 2**(s_ij - l_i)`` or the rows ``mean_h 2**(s_ij - l_i)`` of chosen queries. The online
form of pass one is that of FlashAttention (arXiv 2205.14135). q [B, Hq, Lq, d] and k [B, Hk, Lk, d] are fp32, bf16 or
fp16 with any strides, everything else fp32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import triton
from torch import Tensor

from .._dispatch import interpreting, tile_limit
from .._ragged import power_of_two
from ._geometry import Geometry
from .device import column_kernel, log_sum_kernel, rows_kernel

LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Launch:
    """Tensors and strides that all three kernels take."""

    q: Tensor
    k: Tensor
    geometry: Geometry

    @property
    def packed(self) -> bool:
        """Whether all segments lie in one row."""
        return self.geometry.start is not None

    @cached_property
    def segments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Starts and lengths, in the order of the kernels' arguments."""
        g = self.geometry
        if g.start is not None and g.length is not None:
            return g.start, g.length, g.start, g.length
        start = torch.zeros(g.segments, dtype=torch.int32, device=self.q.device)
        return start, start + g.queries, start, start + g.keys

    @property
    def share(self) -> int:
        """Query heads per key head."""
        return self.q.shape[1] // self.k.shape[1]

    @property
    def unit(self) -> int:
        """Common factor of all strides of q and k: 8 elements, which is one 16-byte load of half precision, or 1."""
        return 8 if all(s % 8 == 0 for x in (self.q, self.k) for s in x.stride()[:3]) else 1

    @property
    def strides(self) -> tuple[int, ...]:
        """Batch, head and token strides of q and k by ``unit``, and the number of keys; packed segments share a row."""
        q, k = (tuple(s // self.unit for s in x.stride()) for x in (self.q, self.k))
        return (0, *q[1:3], 0, *k[1:3], 0) if self.packed else (*q[:3], *k[:3], self.k.shape[2])

    @property
    def mask(self) -> Tensor:
        """Key mask as bytes, or any tensor in its place."""
        mask = self.geometry.key_mask
        return self.segments[0] if mask is None else mask.contiguous().view(torch.uint8)

    def options(self, rows: int, columns: int) -> dict[str, Any]:
        """Compile-time constants for ``rows`` queries and ``columns`` keys."""
        largest = tile_limit(32 if self.q.dtype == torch.float32 else 64)
        return dict(
            CAUSAL=self.geometry.causal,
            MASKED=self.geometry.key_mask is not None,
            ROWS=power_of_two(rows, 16, largest),
            COLUMNS=power_of_two(columns, 16, largest),
            UNIT=self.unit,
            DEPTH=self.q.shape[3],
            BLOCK_D=power_of_two(self.q.shape[3], 16, 32 if self.q.dtype == torch.float32 else 64),
            WIDEN=interpreting(),
            num_warps=4,
        )


def attention_triton(
    q: Tensor, k: Tensor, geometry: Geometry, received: bool, rows: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Launch the kernels; arguments and results as in :func:`vtc.kernels.attention.blocks.attention_torch`."""
    q, k = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k))
    launch = Launch(q, k, geometry)
    total = _received(launch) if received else None
    return total, None if rows is None else _rows(launch, rows.to(torch.int64).contiguous())


def _log_sums(launch: Launch, chosen: Tensor | None) -> Tensor:
    """Pass one: log2-sums [S, H, R] of the chosen queries, or of all."""
    g, heads = launch.geometry, launch.q.shape[1]
    rows = g.queries if chosen is None else chosen.shape[1]
    log_sum = torch.empty(g.segments, heads, rows, dtype=torch.float32, device=launch.q.device)
    weights = g.weights.float().contiguous() if chosen is None and g.weights is not None else None
    options = launch.options(rows, g.keys)
    log_sum_kernel[(triton.cdiv(rows, options["ROWS"]), heads, g.segments)](
        launch.q, launch.k, launch.mask, log_sum if weights is None else weights,
        launch.segments[0] if chosen is None else chosen, log_sum,
        *launch.segments, rows, launch.share, g.scale * LOG2E,
        *launch.strides, 0 if launch.packed else launch.q.shape[2],
        CHOSEN=chosen is not None, WEIGHTED=weights is not None, **options,
    )  # fmt: skip
    return log_sum


def _received(launch: Launch) -> Tensor:
    """Pass two for received attention: [B, Lk], packed [T]."""
    g, (batch, heads, queries, _) = launch.geometry, launch.q.shape
    keys = launch.k.shape[2]
    log_sum = _log_sums(launch, None)
    # packed segments need not cover the row
    make = torch.zeros if launch.packed else torch.empty
    out = make(batch, heads, keys, dtype=torch.float32, device=launch.q.device)
    options = launch.options(g.queries, g.keys)
    weights = log_sum if g.weights is None else g.weights.float().contiguous()
    column_kernel[(triton.cdiv(g.keys, options["COLUMNS"]), heads, g.segments)](
        launch.q, launch.k, launch.mask, weights, log_sum, out, *launch.segments,
        g.queries, keys, launch.share, g.scale * LOG2E,
        *launch.strides, 0 if launch.packed else queries, 0 if launch.packed else heads * keys, keys,
        WEIGHTED=g.weights is not None, PACKED=launch.packed, **options,
    )  # fmt: skip
    mean = out.mean(1)
    return mean[0] if launch.packed else mean


def _rows(launch: Launch, chosen: Tensor) -> Tensor:
    """Both passes for chosen rows: [S, R, Lk]."""
    g, log_sum = launch.geometry, _log_sums(launch, chosen)
    out = torch.empty(g.segments, chosen.shape[1], g.keys, dtype=torch.float32, device=launch.q.device)
    options = launch.options(chosen.shape[1], min(g.keys, tile_limit(32)))
    grid = (triton.cdiv(g.keys, options["COLUMNS"]), triton.cdiv(chosen.shape[1], options["ROWS"]), g.segments)
    rows_kernel[grid](
        launch.q, launch.k, launch.mask, chosen, log_sum, out, *launch.segments,
        chosen.shape[1], g.keys, launch.k.shape[1], launch.share, g.scale * LOG2E,
        *launch.strides, **options,
    )  # fmt: skip
    return out
