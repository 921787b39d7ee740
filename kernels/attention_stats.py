"""Statistics of softmax attention from queries and keys: received attention, chosen rows, sums over column groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ._dispatch import launching_on, use_triton
from ._ragged import Counts, require_shape, row_counts

# query rows whose full attention the reference holds at a time
CHUNK = 256


class AttentionStats(NamedTuple):
    """Statistics of one attention module, all fp32 and averaged over the query heads. S = segments, else the batch.

    Attributes
    ----------
    received : Tensor [B, Lk], or [T] for packed segments, or None
        Weighted mean over the queries of the attention each key receives; zero for padding.
    rows : Tensor [S, R, Lk] or None
        Attention rows of the chosen queries; zero for padding.
    group_sums : Tensor [S, R, G] or None
        Attention of each chosen query to each group of keys.
    """

    received: Tensor | None
    rows: Tensor | None
    group_sums: Tensor | None


@dataclass(frozen=True)
class Geometry:
    """Where the segments lie: segment s owns queries ``q_start[s] .. + q_length[s]`` of batch row s (packed: of row 0).

    ``key_mask`` bool [B, Lk], ``group`` int64 [B, Lk] and ``weights`` [B, Lq] (packed: B = 1) are as given;
    None means all keys, no groups, and equal weights.
    """

    q_start: Tensor
    q_length: Tensor
    k_start: Tensor
    k_length: Tensor
    max_q: int
    max_k: int
    packed: bool
    causal: bool
    scale: float
    key_mask: Tensor | None
    weights: Tensor | None
    group: Tensor | None
    groups: int

    @property
    def segments(self) -> int:
        """S."""
        return self.q_start.shape[0]


def attention_stats(
    q: Tensor,
    k: Tensor,
    *,
    received: bool = True,
    weights: Tensor | None = None,
    rows: Tensor | None = None,
    return_rows: bool = True,
    group: Tensor | None = None,
    groups: int = 0,
    causal: bool = False,
    scale: float | None = None,
    key_mask: Tensor | None = None,
    lengths: Counts = None,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> AttentionStats:
    """Measure softmax(q k^T * scale) without ever holding it.

    Parameters
    ----------
    q : Tensor [B, Hq, Lq, d]
        fp32, bf16 or fp16, any strides, after rotary embedding. Scores, softmax and sums are fp32.
    k : Tensor [B, Hk, Lk, d]
        Hq a multiple of Hk: grouped queries share keys.
    received : bool
        Measure received attention.
    weights : Tensor [B, Lq], optional
        Weight of each query in ``received``; default one over the queries of its segment. 1/|T| on text rows gives
        their mean row, 1/|G| on global tokens the map of VFlowOpt. Queries of weight 0 cost little.
    rows : LongTensor [S, R], optional
        Queries, counted from the start of their segment, -1 = none, whose rows or group sums are wanted.
    return_rows : bool
        False: only the group sums of ``rows``, in one pass and without the rows themselves.
    group : LongTensor [B, Lk], optional
        Group of every key, -1 = none.
    groups : int
        Number of groups G, at most 16.
    causal : bool
        Query i sees keys up to i + (keys - queries) of its segment.
    scale : float, optional
        Default d ** -0.5.
    key_mask : BoolTensor [B, Lk], optional
        False = key hidden from all queries (padding). A query that sees nothing has a row of zeros.
    lengths : int, sequence of int or Tensor [B], optional
        Valid tokens of each batch row, from the left; needs Lq = Lk.
    cu_seqlens : Tensor [S + 1], optional
        Packed segments (windows, images) of ``q`` and ``k`` with B = 1 and Lq = Lk: attention stays inside each.
    max_seqlen : int, optional
        Longest segment; naming it spares a read-back from the GPU.

    Returns
    -------
    AttentionStats

    Raises
    ------
    ValueError
        For shapes or options that do not fit.

    Notes
    -----
    Pass one finds every query's log-sum-exp online, pass two recomputes the scores tile by tile and sums them by key,
    without atomics, so results do not vary from run to run.
    """
    geometry = _geometry(q, k, weights, group, groups, causal, scale, key_mask, lengths, cu_seqlens, max_seqlen)
    if rows is not None:
        require_shape(rows, (geometry.segments, None), "rows")
    if groups and rows is None:
        raise ValueError(
            "groups are summed for chosen rows: pass rows=..., or use weights= and sum `received` by group."
        )
    if use_triton(q, k, weights, rows, group, key_mask) and q.numel() and k.numel():
        from .attention_launch import attention_stats_triton as run
    else:
        run = attention_stats_torch
    with launching_on(q):
        return AttentionStats(*run(q, k, geometry, received, rows, return_rows))


def _geometry(
    q: Tensor,
    k: Tensor,
    weights: Tensor | None,
    group: Tensor | None,
    groups: int,
    causal: bool,
    scale: float | None,
    key_mask: Tensor | None,
    lengths: Counts,
    cu_seqlens: Tensor | None,
    max_seqlen: int | None,
) -> Geometry:
    require_shape(q, (None, None, None, None), "q")
    batch, heads, queries, depth = q.shape
    require_shape(k, (batch, None, None, depth), "k")
    keys, device = k.shape[2], q.device
    if k.shape[1] == 0 or heads % k.shape[1]:
        raise ValueError(f"q has {heads} heads and k {k.shape[1]}: the first must be a multiple of the second.")
    for name, x, width in (("weights", weights, queries), ("group", group, keys), ("key_mask", key_mask, keys)):
        if x is not None:
            require_shape(x, (batch, width), name)
    if not 0 <= groups <= 16 or bool(groups) != (group is not None):
        raise ValueError(f"groups={groups}: pass 1 to 16 together with group=[B, Lk], or neither.")
    if (cu_seqlens is not None or lengths is not None) and queries != keys:
        raise ValueError(f"lengths and cu_seqlens need as many queries as keys, got {queries} and {keys}.")
    if cu_seqlens is not None:
        if batch != 1 or lengths is not None:
            raise ValueError(f"cu_seqlens packs all segments into one row; got a batch of {batch} or lengths as well.")
        start = cu_seqlens[:-1].to(device, torch.int32).contiguous()
        length = (cu_seqlens[1:] - cu_seqlens[:-1]).to(device, torch.int32)
        longest = int(length.max()) if max_seqlen is None else max_seqlen
        q_start = k_start = start
        q_length = k_length = length
        max_q = max_k = longest
    else:
        q_start = k_start = torch.zeros(batch, dtype=torch.int32, device=device)
        q_length = row_counts(lengths, batch, queries, device, "lengths")
        k_length = row_counts(lengths, batch, keys, device, "lengths")
        max_q, max_k = queries, keys
    return Geometry(
        q_start, q_length, k_start, k_length, max_q, max_k, cu_seqlens is not None, causal,
        depth**-0.5 if scale is None else scale, key_mask, weights, group, groups,
    )  # fmt: skip


def attention_stats_torch(
    q: Tensor, k: Tensor, geometry: Geometry, received: bool, rows: Tensor | None, return_rows: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Reference of :func:`attention_stats`: plain softmax, ``CHUNK`` query rows at a time."""
    total = _received(q, k, geometry) if received else None
    if rows is None:
        return total, None, None
    chosen = torch.zeros(geometry.segments, rows.shape[1], geometry.max_k, dtype=accumulator(q), device=q.device)
    sums = chosen.new_zeros(geometry.segments, rows.shape[1], geometry.groups)
    for s in range(geometry.segments):
        width, left = int(geometry.k_length[s]), int(geometry.k_start[s])
        real = (rows[s] >= 0) & (rows[s] < geometry.q_length[s])
        chosen[s, real, :width] = _attention_rows(q, k, geometry, s, rows[s, real])
        if geometry.group is not None:
            own = geometry.group[0 if geometry.packed else s, left : left + width]
            for i in range(geometry.groups):
                sums[s, :, i] = (chosen[s, :, :width] * (own == i)).sum(-1)
    return total, chosen if return_rows else None, sums if geometry.groups else None


def accumulator(x: Tensor) -> torch.dtype:
    """Type of all sums: fp32, or fp64 for fp64 inputs."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _received(q: Tensor, k: Tensor, g: Geometry) -> Tensor:
    """Received attention [B, Lk], packed [T]."""
    total = torch.zeros(k.shape[0], k.shape[2], dtype=accumulator(q), device=q.device)
    for s in range(g.segments):
        b, low, n = (0 if g.packed else s), int(g.q_start[s]), int(g.q_length[s])
        left, width = int(g.k_start[s]), int(g.k_length[s])
        for start in range(0, n, CHUNK):
            row = torch.arange(start, min(start + CHUNK, n), device=q.device)
            weight = torch.full(row.shape, 1 / n, device=q.device) if g.weights is None else g.weights[b, low + row]
            total[b, left : left + width] += weight.to(total.dtype) @ _attention_rows(q, k, g, s, row)
    return total[0] if g.packed else total


def _attention_rows(q: Tensor, k: Tensor, g: Geometry, s: int, row: Tensor) -> Tensor:
    """Head mean of the attention of queries ``row`` of segment ``s``: [R, keys of the segment]."""
    b, left, width = (0 if g.packed else s), int(g.k_start[s]), int(g.k_length[s])
    kind = accumulator(q)
    query = q[b, :, int(g.q_start[s]) + row].to(kind)
    key = k[b, :, left : left + width].to(kind).repeat_interleave(q.shape[1] // k.shape[1], 0)
    score = query @ key.mT * g.scale
    column = torch.arange(width, device=q.device)
    hidden = torch.zeros(row.shape[0], width, dtype=torch.bool, device=q.device)
    if g.causal:
        hidden |= column > (row + width - int(g.q_length[s]))[:, None]
    if g.key_mask is not None:
        hidden |= ~g.key_mask[b, left : left + width]
    score = score.masked_fill(hidden, -torch.inf)
    # rows that see nothing are zero, not NaN
    return score.softmax(-1).nan_to_num(0.0).mean(0)
