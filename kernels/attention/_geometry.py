"""What an attention statistic is taken over: segments, masks and weights, checked and in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._ragged import require_shape


@dataclass(frozen=True)
class Geometry:
    """Where the segments lie: segment s owns queries ``q_start[s] .. + q_length[s]`` of batch row s (packed: of row 0).

    ``key_mask`` bool [B, Lk], ``mask`` [B or 1, H or 1, Lq, Lk] and ``weights`` [B, Lq] (packed: B = 1) are as given;
    None means all keys, and equal weights.
    """

    q_start: Tensor
    q_length: Tensor
    k_start: Tensor
    k_length: Tensor
    max_q: int
    max_k: int
    packed: bool
    scale: float
    causal: bool
    window: int | None
    softcap: float | None
    key_mask: Tensor | None
    mask: Tensor | None
    weights: Tensor | None

    @property
    def segments(self) -> int:
        """S."""
        return self.q_start.shape[0]

    @property
    def plain(self) -> bool:
        """Whether the kernel knows everything asked for: no 4-D mask, no window, no softcap."""
        return self.mask is None and self.window is None and self.softcap is None

    def part(self, start: int, length: int) -> Geometry:
        """Return the geometry of one packed segment on its own: tokens ``start .. + length``."""
        zero = torch.zeros(1, dtype=torch.int32, device=self.q_start.device)
        cut = slice(start, start + length)
        return replace(
            self, q_start=zero, k_start=zero, q_length=zero + length, k_length=zero + length,
            max_q=length, max_k=length, packed=False,
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
    mask: Tensor | None = None,
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
    if cu_seqlens is None:
        start = torch.zeros(batch, dtype=torch.int32, device=q.device)
        layout = (start, start + queries, start, start + keys, queries, keys, False)
    else:
        if batch != 1 or queries != keys or mask is not None:
            raise ValueError(
                f"cu_seqlens packs all segments into one row, queries and keys alike and without a 4-D mask; got a "
                f"batch of {batch}, {queries} queries, {keys} keys and mask={'None' if mask is None else 'given'}."
            )
        edges = cu_seqlens.to(q.device, torch.int32)
        start, length = edges[:-1].contiguous(), edges[1:] - edges[:-1]
        longest = int(length.max()) if max_seqlen is None else max_seqlen
        layout = (start, length, start, length, longest, longest, True)
    return Geometry(*layout, depth**-0.5 if scale is None else scale, causal, window, softcap, key_mask, mask, weights)


def _check_masks(
    q: Tensor, keys: int, mask: Tensor | None, window: int | None, softcap: float | None, causal: bool
) -> None:
    batch, heads, queries, _ = q.shape
    if mask is not None:
        require_shape(mask, (None, None, queries, keys), "mask")
        if mask.shape[0] not in (1, batch) or mask.shape[1] not in (1, heads):
            raise ValueError(
                f"mask has shape {tuple(mask.shape)}; needed: [{batch} or 1, {heads} or 1, {queries}, {keys}]."
            )
    if window is not None and (window < 1 or not causal):
        raise ValueError(f"window={window} with causal={causal}: a window is at least 1 and part of causal attention.")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap={softcap!r} is not allowed: it must be positive; None means no cap.")
