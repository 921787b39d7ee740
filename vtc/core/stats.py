"""Statistics of attention computed from q and k: chosen rows and column means, in fp32, never a full N x N matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from vtc.kernels import AttentionStats, attention_stats
from vtc.kernels._dispatch import use_triton

# fp32 elements of one block of attention rows; 4M elements are 16 MB
BLOCK = 1 << 22


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


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _logits(call: AttentionCall, rows: Tensor) -> Tensor:
    """Masked logits of query rows ``rows`` LongTensor [B or 1, R] against all keys: ``[B, H, R, K]``."""
    batch, heads, _, dim = call.q.shape
    groups = call.k.shape[1]
    rows = rows.expand(batch, -1)
    q = call.q.gather(2, rows[:, None, :, None].expand(-1, heads, -1, dim))
    q = _wide(q).view(batch, groups, heads // groups * rows.shape[1], dim)
    logits = (q @ _wide(call.k).transpose(-1, -2) * call.scaling).view(batch, heads, rows.shape[1], -1)
    if call.softcap:
        logits = torch.tanh(logits / call.softcap) * call.softcap
    seen = visible(call, rows)
    if seen is not None:
        logits = logits.masked_fill(~seen, -torch.inf)
    if isinstance(call.mask, Tensor) and call.mask.ndim == 4 and call.mask.is_floating_point():
        logits = logits + _mask_rows(call, rows).to(logits.dtype)
    return logits


def _mask_rows(call: AttentionCall, rows: Tensor) -> Tensor:
    if not isinstance(call.mask, Tensor):
        raise TypeError(f"A mask that is a {type(call.mask).__name__} has no rows to gather.")
    mask = call.mask[..., : call.k.shape[2]].expand(rows.shape[0], -1, -1, -1)
    return mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))


def visible(call: AttentionCall, rows: Tensor) -> Tensor | None:
    """Which keys rows [B, R] may see: bool [B, 1 or H, R, K], None when all."""
    keys, queries = call.k.shape[2], call.q.shape[2]
    mask = call.mask
    if callable(mask):
        return mask(rows)
    if mask is not None and mask.ndim == 4:
        picked = _mask_rows(call, rows)
        return picked > torch.finfo(mask.dtype).min / 2 if mask.is_floating_point() else picked.bool()
    seen: Tensor | None = None
    column = torch.arange(keys, device=rows.device)
    place = (rows + (keys - queries))[:, None, :, None]
    if call.causal:
        seen = column <= place
        if call.window:
            seen = seen & (column > place - call.window)
    if mask is not None:
        padding = mask[:, None, None, -keys:].bool()
        seen = padding if seen is None else seen & padding
    return seen


def attention_rows(call: AttentionCall, rows: Tensor) -> Tensor:
    """Softmax rows of the queries ``rows`` [B or 1, R]: ``[B, H, R, K]`` in fp32 (fp64 stays fp64)."""
    logits = _logits(call, rows)
    # a row that sees nothing (padding) gives zeros; any other NaN is a fault of the model and must stay visible
    return torch.softmax(logits, -1).masked_fill(torch.isneginf(logits).all(-1, keepdim=True), 0.0)


def mean_rows(call: AttentionCall, rows: Tensor, counts: Tensor) -> Tensor:
    """Attention of chosen queries to every key, mean over heads and those queries: ``[B, K]``, 0 without queries.

    Parameters
    ----------
    rows : LongTensor [B, R]
        Queries; read block by block.
    counts : BoolTensor [B, R]
        Which of them count.
    """
    batch, heads, _, _ = call.q.shape
    step = max(1, BLOCK // (batch * heads * call.k.shape[2]))
    total = torch.zeros(batch, call.k.shape[2], dtype=_wide(call.q[:0]).dtype, device=call.q.device)
    for chosen, real in zip(rows.split(step, 1), counts.split(step, 1), strict=True):
        total += (attention_rows(call, chosen).mean(1) * real[..., None]).sum(1)
    return total / counts.sum(1, keepdim=True).clamp_min(1)


def _measured(call: AttentionCall, **wanted: Any) -> AttentionStats | None:
    """Let the kernel measure; None where it does not run or does not know a mask, a window or a softcap."""
    if call.mask is not None or call.window or call.softcap or not use_triton(call.q, call.k):
        return None
    bounds = None
    if call.segments is not None:
        bounds = torch.tensor([0, *accumulate(call.segments)], dtype=torch.int32, device=call.q.device)
    return attention_stats(call.q, call.k, causal=call.causal, scale=call.scaling, cu_seqlens=bounds, **wanted)


def class_row(call: AttentionCall) -> Tensor:
    """Attention of query 0 to all later keys, mean over heads: ``[B, K - 1]``. The softmax includes key 0."""
    first = torch.zeros(1, 1, dtype=torch.long, device=call.q.device)
    if call.segments is None:
        found = _measured(call, received=False, rows=first.expand(call.q.shape[0], -1))
        if found is not None and found.rows is not None:
            return found.rows[:, 0, 1:]
    return attention_rows(call, first)[:, :, 0, 1:].mean(1)


def received(call: AttentionCall) -> Tensor:
    """Mean attention each key receives: mean over heads and over the queries that may see it, ``[B, K]``.

    Rows that are padding count as queries only where a mask lets them see the key. Works block by block of queries.
    """
    if not call.causal:  # otherwise keys are seen by different numbers of queries
        found = _measured(call)
        if found is not None and found.received is not None:
            return found.received if call.segments is None else found.received[None]
    if call.segments is not None:
        parts = zip(call.q.split(call.segments, 2), call.k.split(call.segments, 2), strict=True)
        return torch.cat([received(AttentionCall(q, k, call.scaling)) for q, k in parts], -1)
    batch, heads, queries, _ = call.q.shape
    keys = call.k.shape[2]
    step = max(1, BLOCK // (batch * heads * keys))
    total = torch.zeros(batch, keys, dtype=_wide(call.q[:0]).dtype, device=call.q.device)
    count = torch.zeros_like(total)
    for start in range(0, queries, step):
        rows = torch.arange(start, min(start + step, queries), device=call.q.device)[None]
        total += attention_rows(call, rows).sum((1, 2))
        seen = visible(call, rows.expand(batch, -1))
        count += float(rows.shape[1]) if seen is None else seen[:, 0].expand(batch, rows.shape[1], keys).sum(1)
    return total / (heads * count.clamp_min(1))


def mean_mass(call: AttentionCall, rows: Tensor, targets: Tensor) -> Tensor:
    """Attention that chosen queries pay to chosen keys, mean over heads and queries: ``[B]``, NaN without queries.

    Parameters
    ----------
    rows : BoolTensor [B, Q]
    targets : BoolTensor [B, K]
    """
    batch, heads = call.q.shape[:2]
    count = rows.sum(1)
    width = int(count.max())
    columns = torch.argsort(rows.to(torch.int8), dim=1, stable=True)[:, rows.shape[1] - width :]
    step = max(1, BLOCK // (batch * heads * call.k.shape[2]))
    total = torch.zeros(batch, dtype=_wide(call.q[:0]).dtype, device=call.q.device)
    for chosen in columns.split(step, 1) if width else ():
        mass = (attention_rows(call, chosen) * targets[:, None, None]).sum(-1).mean(1)  # [B, R]
        total += (mass * rows.gather(1, chosen)).sum(1)
    return total / count


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
