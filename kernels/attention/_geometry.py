"""What an attention statistic is taken over: sizes, packed segments, masks and weights, checked and in one place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._ragged import require_shape

Mask = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Geometry:
    """Sizes and restrictions of one call.

    Parameters
    ----------
    segments : int
        S: packed segments, else the batch.
    queries, keys : int
        Of each segment; of the longest where they are packed.
    start, length : Tensor [S], int32, or None
        Where packed segments lie along the tokens; None when they are not packed.
    key_mask, mask, weights
        As :func:`vtc.kernels.attention_stats` got them.
    """

    segments: int
    queries: int
    keys: int
    start: Tensor | None
    length: Tensor | None
    scale: float
    causal: bool
    window: int | None
    softcap: float | None
    key_mask: Tensor | None
    mask: Mask | None
    weights: Tensor | None

    @property
    def plain(self) -> bool:
        """Whether the kernel knows everything asked for: no mask but one of keys, no window, no softcap."""
        return self.mask is None and self.window is None and self.softcap is None

    def part(self, start: int, length: int) -> Geometry:
        """Return the geometry of one packed segment on its own: tokens ``start .. + length``."""
        cut = slice(start, start + length)
        return replace(
            self, segments=1, queries=length, keys=length, start=None, length=None,
            key_mask=None if self.key_mask is None else self.key_mask[:, cut],
            weights=None if self.weights is None else self.weights[:, cut],
        )  # fmt: skip


def geometry_of(
    q: Tensor,
    k: Tensor,
    *,
    weights: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    key_mask: Tensor | None = None,
    mask: Mask | None = None,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> Geometry:
    """Check the arguments of :func:`vtc.kernels.attention_stats` against each other and lay them out.

    Raises
    ------
    ValueError
        For shapes or options that do not fit.
    """
    require_shape(q, (None, None, None, None), "q")
    batch, heads, queries, depth = q.shape
    require_shape(k, (batch, None, None, depth), "k")
    keys = k.shape[2]
    if k.shape[1] == 0 or heads % k.shape[1]:
        raise ValueError(f"q has {heads} heads and k {k.shape[1]}: the first must be a multiple of the second.")
    for name, x, width in (("weights", weights, queries), ("key_mask", key_mask, keys)):
        if x is not None:
            require_shape(x, (batch, width), name)
    _check_masks(q, keys, mask, window, softcap, causal)
    segments, start, length = batch, None, None
    if cu_seqlens is not None:
        if batch != 1 or queries != keys or mask is not None:
            raise ValueError(
                f"cu_seqlens packs all segments into one row, queries and keys alike and without a 4-D mask; got a "
                f"batch of {batch}, {queries} queries, {keys} keys and mask={'None' if mask is None else 'given'}."
            )
        edges = cu_seqlens.to(q.device, torch.int32)
        start, length = edges[:-1].contiguous(), edges[1:] - edges[:-1]
        segments = len(start)
        queries = keys = int(length.max()) if max_seqlen is None else max_seqlen
    scale = depth**-0.5 if scale is None else scale
    return Geometry(
        segments, queries, keys, start, length, scale, causal, window, softcap, key_mask, mask, weights
    )  # fmt: skip


def _check_masks(
    q: Tensor, keys: int, mask: Mask | None, window: int | None, softcap: float | None, causal: bool
) -> None:
    batch, heads, queries, _ = q.shape
    if isinstance(mask, Tensor):
        require_shape(mask, (None, None, queries, keys), "mask")
        if mask.shape[0] not in (1, batch) or mask.shape[1] not in (1, heads):
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}; needed: [{batch} or 1, {heads} or 1, {queries}, {keys}]."
            )
    if window is not None and (window < 1 or not causal):
        raise ValueError(f"window={window} with causal={causal}: a window is at least 1 and part of causal attention.")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap={softcap!r} is not allowed: it must be positive; None means no cap.")
