"""Statistics of attention computed from q and k: chosen rows and column means, in fp32, never a full N x N matrix.

All of them are sums that :func:`vtc.kernels.attention_stats` makes; what lies here are the calls of real modules, with
their kinds of masks, and the means the methods want.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

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
    found = measure(call, weights=weights).received
    assert found is not None  # it was asked for
    return found if call.segments is None else found[None]


def class_row(call: AttentionCall) -> Tensor:
    """Attention of query 0 to all later keys, mean over heads: ``[B, K - 1]``. The softmax includes key 0.

    Raises
    ------
    ValueError
        Several images are packed along the tokens: each has a class token of its own.
    """
    if call.segments is not None and len(call.segments) > 1:
        raise ValueError(
            f"The attention of [CLS] was asked of {len(call.segments)} images packed into one row, which have one "
            "each. Load the model with attn_implementation='sdpa', which does not pack images."
        )
    first = torch.zeros(call.q.shape[0], 1, dtype=torch.long, device=call.q.device)
    found = measure(call, received=False, rows=first).rows
    assert found is not None  # it was asked for
    return found[:, 0, 1:]


def mean_rows(call: AttentionCall, rows: Tensor, counts: Tensor) -> Tensor:
    """Attention of chosen queries to every key, mean over heads and those queries: ``[B, K]``, 0 without queries.

    Parameters
    ----------
    rows : LongTensor [B, R]
        Queries.
    counts : BoolTensor [B, R]
        Which of them count.
    """
    weights = torch.zeros(call.q.shape[0], call.q.shape[2], device=call.q.device)
    weights.scatter_add_(1, rows.expand(len(weights), -1), counts.expand(len(weights), -1).to(weights.dtype))
    return column_sums(call, weights) / counts.sum(1, keepdim=True).clamp_min(1)


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
        assert seen is not None  # there is a mask
        count += seen[:, 0].expand(batch, rows.shape[1], -1).sum(1)
    return count


def mean_mass(call: AttentionCall, rows: Tensor, targets: Tensor) -> Tensor:
    """Attention that chosen queries pay to chosen keys, mean over heads and queries: ``[B]``, NaN without queries.

    Parameters
    ----------
    rows : BoolTensor [B, Q]
    targets : BoolTensor [B, K]
    """
    mass = (column_sums(call, rows.to(torch.float32)) * targets).sum(1)
    return mass / rows.sum(1)


def relevance(call: AttentionCall, text: Tensor, visual: Tensor, past: int = 0) -> Tensor:
    """Mean attention of text rows to visual tokens and of visual rows to text (ToDRE, stage 2): ``[B, 2]``.

    Parameters
    ----------
    text, visual : BoolTensor [B, Q]
        Kinds of the queries; they are the keys ``past .. past + Q``.

    Notes
    -----
    Decoders are causal: the second number is exactly 0 unless some text stands before a visual token, and only then are
    the rows of the visual tokens computed.
    """
    behind = call.k.shape[2] - past - text.shape[1]
    pad = (past, behind)
    to_visual = mean_mass(call, text, torch.nn.functional.pad(visual, pad))
    later = visual & (text.long().cumsum(1) > 0)
    if not bool(later.any()):  # nobody sees what comes later
        return torch.stack([to_visual, torch.zeros_like(to_visual)], 1)
    to_text = mean_mass(call, visual, torch.nn.functional.pad(text, pad))
    return torch.stack([to_visual, to_text], 1)
