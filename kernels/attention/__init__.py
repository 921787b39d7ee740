"""Statistics of softmax attention from queries and keys: received attention and chosen rows."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from .._dispatch import launching_on, use_triton
from .._ragged import require_shape
from ._geometry import Mask, geometry_of
from .blocks import attention_torch, visible_keys

__all__ = ["AttentionStats", "attention_stats", "visible_keys"]


class AttentionStats(NamedTuple):
    """Statistics of one attention module, averaged over the query heads; fp32 (fp64 stays). S = segments, else B.

    Attributes
    ----------
    received : Tensor [B, Lk], or [T] for packed segments, or None
        Weighted sum over the queries of the attention each key receives; zero for hidden keys.
    rows : Tensor [S, R, Lk] or None
        Attention rows of the chosen queries; zero for hidden keys.
    """

    received: Tensor | None
    rows: Tensor | None


def attention_stats(
    q: Tensor,
    k: Tensor,
    *,
    received: bool = True,
    weights: Tensor | None = None,
    rows: Tensor | None = None,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    key_mask: Tensor | None = None,
    mask: Mask | None = None,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> AttentionStats:
    """Measure softmax(q k^T * scale) without ever holding it.

    Parameters
    ----------
    q : Tensor [B, Hq, Lq, d]
        fp32, bf16 or fp16, with scores, softmax and sums in fp32, or fp64; any strides, after rotary embedding.
    k : Tensor [B, Hk, Lk, d]
        Hq a multiple of Hk: grouped queries share keys.
    received : bool
        Measure received attention.
    weights : Tensor [B, Lq], optional
        Weight of each query in ``received``; default one over the queries of its segment. 1/|T| on text rows gives
        their mean row, 1/|G| on global tokens the map of VFlowOpt. Queries of weight 0 cost little and may hold NaN.
    rows : LongTensor [S, R], optional
        Queries whose rows are wanted, counted from the start of their segment, -1 = none.
    scale : float, optional
        Default d ** -0.5.
    causal : bool
        Query i sees keys up to i + (keys - queries) of its segment.
    window : int, optional
        Of those the last so many; needs ``causal``. Runs in plain torch.
    softcap : float, optional
        Scores s become ``softcap * tanh(s / softcap)`` before any mask. Runs in plain torch.
    key_mask : BoolTensor [B, Lk], optional
        False = key hidden from all queries (padding). Hidden keys may hold NaN.
    mask : Tensor [B or 1, Hq or 1, Lq, Lk] or callable, optional
        Bool (True = seen) or additive; or a function from queries LongTensor [B, R] to what they see, bool [B or 1,
        Hq or 1, R, Lk], for masks that are never spelled out whole. Runs in plain torch.
    cu_seqlens : Tensor [S + 1], optional
        Packed segments (windows, images) of ``q`` and ``k`` with B = 1 and Lq = Lk: attention stays inside each.
    max_seqlen : int, optional
        Longest segment; naming it spares a read-back from the GPU.

    Returns
    -------
    AttentionStats
        A query that sees nothing has a row of zeros.

    Raises
    ------
    ValueError
        For shapes or options that do not fit.

    Notes
    -----
    Pass one finds every query's log-sum-exp online, pass two recomputes the scores tile by tile and sums them by key,
    without atomics, so results do not vary from run to run.
    """
    geometry = geometry_of(
        q, k, weights=weights, scale=scale, causal=causal, window=window, softcap=softcap, key_mask=key_mask, mask=mask,
        cu_seqlens=cu_seqlens, max_seqlen=max_seqlen,
    )  # fmt: skip
    if rows is not None:
        require_shape(rows, (geometry.segments, None), "rows")
    some = q.numel() and k.numel() and (rows is None or rows.numel())
    if use_triton(q, k, weights, rows, key_mask) and geometry.plain and some:
        from .triton import attention_triton as run
    else:
        run = attention_torch
    with launching_on(q):
        return AttentionStats(*run(q, k, geometry, received, rows))
