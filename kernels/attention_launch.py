"""Launches of the attention kernels: two passes, block sizes, strides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from ._dispatch import interpreting, tile_limit
from ._ragged import power_of_two
from .attention_stats import Geometry
from .attention_triton import column_kernel, log_sum_kernel, rows_kernel

LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Launch:
    """Tensors and strides that all three kernels take."""

    q: Tensor
    k: Tensor
    geometry: Geometry

    @property
    def segments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Starts and lengths, in the order of the kernels' arguments."""
        g = self.geometry
        return g.q_start, g.q_length, g.k_start, g.k_length

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
        return (0, *q[1:3], 0, *k[1:3], 0) if self.geometry.packed else (*q[:3], *k[:3], self.k.shape[2])

    @property
    def mask(self) -> Tensor:
        """Key mask as bytes, or any tensor in its place."""
        mask = self.geometry.key_mask
        return self.geometry.k_start if mask is None else mask.contiguous().view(torch.uint8)

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


def attention_stats_triton(
    q: Tensor, k: Tensor, geometry: Geometry, received: bool, rows: Tensor | None, return_rows: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Launch the kernels; arguments and results as in :func:`vtc.kernels.attention_stats.attention_stats_torch`."""
    q, k = (x if x.stride(3) == 1 else x.contiguous() for x in (q, k))
    launch = Launch(q, k, geometry)
    total = _received(launch) if received else None
    if rows is None:
        return total, None, None
    rows = rows.to(torch.int64).contiguous()
    log_sum, sums = _log_sums(launch, rows)
    return total, _rows(launch, rows, log_sum) if return_rows else None, sums


def _log_sums(launch: Launch, chosen: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Pass one: log2-sums [S, H, R] of the chosen queries, or of all, and group sums of the chosen."""
    g, heads = launch.geometry, launch.q.shape[1]
    rows = g.max_q if chosen is None else chosen.shape[1]
    log_sum = torch.empty(g.segments, heads, rows, dtype=torch.float32, device=launch.q.device)
    groups = g.groups if chosen is not None else 0
    sums = log_sum.new_empty(*log_sum.shape, 16) if groups else log_sum
    weighted = chosen is None and g.weights is not None
    weights = g.weights.float().contiguous() if weighted and g.weights is not None else log_sum
    group = g.group.contiguous() if groups and g.group is not None else g.k_start
    options = launch.options(rows, g.max_k)
    if groups:
        # few rows, many live values: without the pipeline's copies nothing spills
        options["num_stages"] = 1
    log_sum_kernel[(triton.cdiv(rows, options["ROWS"]), heads, g.segments)](
        launch.q, launch.k, launch.mask, weights, g.q_start if chosen is None else chosen, group, log_sum, sums,
        *launch.segments, rows, launch.share, g.scale * LOG2E,
        *launch.strides, 0 if g.packed else launch.q.shape[2],
        CHOSEN=chosen is not None, WEIGHTED=weighted, GROUPS=groups, **options,
    )  # fmt: skip
    return log_sum, sums[..., :groups].mean(1) if groups else None


def _received(launch: Launch) -> Tensor:
    """Pass two for received attention: [B, Lk], packed [T]."""
    g, (batch, heads, queries, _) = launch.geometry, launch.q.shape
    keys = launch.k.shape[2]
    log_sum, _ = _log_sums(launch, None)
    # packed segments need not cover the row
    make = torch.zeros if g.packed else torch.empty
    out = make(batch, heads, keys, dtype=torch.float32, device=launch.q.device)
    options = launch.options(g.max_q, g.max_k)
    weights = log_sum if g.weights is None else g.weights.float().contiguous()
    column_kernel[(triton.cdiv(g.max_k, options["COLUMNS"]), heads, g.segments)](
        launch.q, launch.k, launch.mask, weights, log_sum, out, *launch.segments,
        g.max_q, keys, launch.share, g.scale * LOG2E,
        *launch.strides, 0 if g.packed else queries, 0 if g.packed else heads * keys, keys,
        WEIGHTED=g.weights is not None, PACKED=g.packed, **options,
    )  # fmt: skip
    mean = out.mean(1)
    return mean[0] if g.packed else mean


def _rows(launch: Launch, chosen: Tensor, log_sum: Tensor) -> Tensor:
    """Pass two for chosen rows: [S, R, Lk]."""
    g = launch.geometry
    out = torch.empty(g.segments, chosen.shape[1], g.max_k, dtype=torch.float32, device=launch.q.device)
    options = launch.options(chosen.shape[1], min(g.max_k, tile_limit(32)))
    grid = (triton.cdiv(g.max_k, options["COLUMNS"]), triton.cdiv(chosen.shape[1], options["ROWS"]), g.segments)
    rows_kernel[grid](
        launch.q, launch.k, launch.mask, chosen, log_sum, out, *launch.segments,
        chosen.shape[1], g.max_k, launch.k.shape[1], launch.share, g.scale * LOG2E,
        *launch.strides, **options,
    )  # fmt: skip
    return out
