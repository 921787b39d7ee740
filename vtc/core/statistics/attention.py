"""Calls of real attention modules, with their kinds of masks, and the attention their keys receive.

All statistics of attention are sums that :func:`vtc.kernels.attention_stats` makes from q and k, in fp32 and never as a
full N x N matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor

from vtc.kernels import AttentionStats, attention_stats, visible_keys

# queries times keys looked at together when the queries that see a key are counted
BLOCK = 1 << 24


@dataclass(frozen=True)
class AttentionCall:
    """What one attention module handed to its kernel.

    Parameters
    ----------
    q : Tensor [B, H, Q, d]
    k : Tensor [B, Hk, K, d]
        After norms, rotary embedding and cache update; ``H % Hk == 0``.
    scaling : float
    mask : Tensor, callable or None
        Bool or additive [B or 1, H or 1, Q, >= K], or 2-D validity [B, >= K] (its last K columns count), or a function
        from queries LongTensor [B, R] to what they see, bool [B, 1, R, K]: block masks are never spelled out whole.
    causal : bool
        Query i sees keys up to ``i + K - Q``; ignored where a 4-D mask says it already.
    window : int or None
        Sliding window that the kernel applies by itself (flash).
    softcap : float or None
    segments : tuple of int or None
        Lengths of the independent sequences packed along Q and K (flash ``cu_seqlens``).
    """

    q: Tensor
    k: Tensor
    scaling: float
    mask: Tensor | Callable[[Tensor], Tensor] | None = None
    causal: bool = False
    window: int | None = None
    softcap: float | None = None
    segments: tuple[int, ...] | None = None

    def masks(self) -> dict[str, Any]:
        """Return what hides keys, by the names that :mod:`vtc.kernels` has for it."""
        keys, window = self.k.shape[2], self.window or None
        # masks of these two kinds say it all
        if callable(self.mask):
            return {"mask": self.mask}
        if self.mask is not None and self.mask.ndim == 4:
            mask = self.mask if self.mask.is_floating_point() else self.mask.bool()
            return {"mask": mask[..., :keys].expand(-1, -1, self.q.shape[2], -1)}
        hidden: dict[str, Any] = {"causal": self.causal, "window": window if self.causal else None}
        if self.mask is not None:
            hidden["key_mask"] = self.mask[:, -keys:].bool().expand(self.q.shape[0], -1)
        return hidden

    def alone(self) -> list[AttentionCall]:
        """Split into one call per packed segment."""
        parts = zip(self.q.split(self.segments or (), 2), self.k.split(self.segments or (), 2), strict=True)
        return [replace(self, q=q, k=k, segments=None) for q, k in parts]


def measure(call: AttentionCall, **wanted: Any) -> AttentionStats:
    """Call :func:`vtc.kernels.attention_stats` on what the module was given; ``wanted`` are its other arguments."""
    bounds = None
    if call.segments is not None:
        bounds = torch.tensor([0, *accumulate(call.segments)], dtype=torch.int32, device=call.q.device)
        wanted["max_seqlen"] = max(call.segments, default=0)
    return attention_stats(
        call.q, call.k, scale=call.scaling, softcap=call.softcap or None, cu_seqlens=bounds, **call.masks(), **wanted
    )


def visible(call: AttentionCall, rows: Tensor) -> Tensor | None:
    """Which keys rows [B, R] may see: bool [B or 1, 1 or H, R or 1, K], None when all."""
    return visible_keys(rows, call.q.shape[2], call.k.shape[2], **call.masks())


def column_sums(call: AttentionCall, weights: Tensor | None = None) -> Tensor:
    """Weighted sum over the queries of the attention each key receives, mean over heads.

    Parameters
    ----------
    weights : Tensor [B, Q], optional
        Default: the mean over the queries (of a segment).

    Returns
    -------
    Tensor [B, K], fp32 (fp64 stays)
    """
    found = cast(Tensor, measure(call, weights=weights).received)  # it is asked for by default
    return found if call.segments is None else found[None]


def received(call: AttentionCall) -> Tensor:
    """Mean attention each key receives: mean over heads and over the queries that may see it, ``[B, K]``.

    Rows that are padding count as queries only where a mask lets them see the key. Works block by block of queries.
    """
    if call.segments is not None and call.causal:
        return torch.cat([received(part) for part in call.alone()], -1)
    mean = column_sums(call)
    if call.segments is not None or (call.mask is None and not call.causal):
        return mean
    return mean * call.q.shape[2] / _seeing_queries(call).clamp_min(1)


def _seeing_queries(call: AttentionCall) -> Tensor:
    """How many queries may see each key (a mask per head: by its first head): [B or 1, K]."""
    queries, keys, device = call.q.shape[2], call.k.shape[2], call.q.device
    if call.mask is None:
        # causal: query i sees key j from i = j - (K - Q) on, for as long as the window is
        first = torch.arange(keys, device=device) - (keys - queries)
        last = (first + call.window).clamp(0, queries) if call.window else queries
        return (last - first.clamp(0, queries))[None]
    batch, count = call.q.shape[0], torch.zeros(call.q.shape[0], keys, dtype=torch.long, device=device)
    every = torch.arange(queries, device=device).expand(batch, -1)
    for rows in every.split(max(1, BLOCK // (batch * keys)), 1):
        seen = visible(call, rows)
        count += rows.shape[1] if seen is None else seen[:, 0].expand(batch, rows.shape[1], -1).sum(1)
    return count
