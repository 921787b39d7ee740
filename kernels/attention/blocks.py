"""Torch code of :func:`vtc.kernels.attention_stats`: plain softmax of as many query rows as fit a block.

Also knows what the kernel does not: 4-D masks, windows and softcaps.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .._ragged import accumulator
from ._geometry import Geometry

# attention scores held at a time; 4M of them are 16 MB in fp32
BLOCK = 1 << 22


def attention_torch(
    q: Tensor, k: Tensor, geometry: Geometry, received: bool, rows: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Received attention ([B, Lk], packed [T]) and attention of the chosen ``rows`` ([S, R, Lk])."""
    # once, not for every block
    k = k.to(accumulator(q, k))
    if geometry.packed:
        return _packed(q, k, geometry, received, rows)
    total = _received(q, k, geometry) if received else None
    return total, None if rows is None else _rows(q, k, geometry, rows)


def visible_keys(
    rows: Tensor,
    queries: int,
    keys: int,
    *,
    causal: bool = False,
    window: int | None = None,
    key_mask: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor | None:
    """Which keys some queries may see.

    Parameters
    ----------
    rows : LongTensor [B, R]
        The queries.
    queries, keys : int
        How many there are of each, Lq and Lk.
    causal, window, key_mask, mask
        See :func:`vtc.kernels.attention_stats`.

    Returns
    -------
    BoolTensor [B or 1, 1 or H, R or 1, Lk], or None when all are seen
    """
    seen: list[Tensor] = []
    if mask is not None:
        picked = _mask_rows(mask, rows)
        seen.append(picked if mask.dtype == torch.bool else picked > torch.finfo(mask.dtype).min / 2)
    if causal:
        column = torch.arange(keys, device=rows.device)
        place = (rows + (keys - queries))[:, None, :, None]
        seen.append(column <= place)
        if window is not None:
            seen.append(column > place - window)
    if key_mask is not None:
        seen.append(key_mask[:, None, None, :])
    if not seen:
        return None
    whole = seen[0]
    for other in seen[1:]:
        whole = whole & other
    return whole


def _mask_rows(mask: Tensor, rows: Tensor) -> Tensor:
    mask = mask.expand(rows.shape[0], -1, -1, -1)
    return mask.gather(2, rows[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3]))


def _attention(q: Tensor, k: Tensor, g: Geometry, rows: Tensor) -> Tensor:
    """Attention of the queries ``rows`` [B, R], mean over the heads: [B, R, Lk]."""
    batch, heads, _, depth = q.shape
    groups, count = k.shape[1], rows.shape[1]
    query = q.gather(2, rows[:, None, :, None].expand(-1, heads, -1, depth)).to(k.dtype)
    # grouped queries share keys: their heads lie beside each other and become rows of one product
    query = query.view(batch, groups, heads // groups * count, depth)
    score = (query @ k.mT * g.scale).view(batch, heads, count, k.shape[2])
    if g.softcap is not None:
        score = torch.tanh(score / g.softcap) * g.softcap
    seen = visible_keys(
        rows, g.max_q, g.max_k, causal=g.causal, window=g.window, key_mask=g.key_mask, mask=g.mask
    )  # fmt: skip
    if seen is None:
        return score.softmax(-1).mean(1)
    score = score.masked_fill(~seen, -torch.inf)
    if g.mask is not None and g.mask.dtype != torch.bool:
        score = score + _mask_rows(g.mask, rows).to(score.dtype)
    # rows that see nothing are zero, not NaN; other NaN stays what it is
    return score.softmax(-1).masked_fill(~seen.any(-1, keepdim=True), 0.0).mean(1)


def _step(q: Tensor, k: Tensor) -> int:
    """Query rows of a block."""
    return max(1, BLOCK // max(1, q.shape[0] * q.shape[1] * k.shape[2]))


def _received(q: Tensor, k: Tensor, g: Geometry) -> Tensor:
    total = torch.zeros(k.shape[0], k.shape[2], dtype=k.dtype, device=q.device)
    for rows, weight in _counted(q, k, g):
        attention = _attention(q, k, g, rows)
        if g.weights is not None:
            # a select, not a product: what does not count may hold NaN
            attention = attention.masked_fill((weight == 0)[..., None], 0.0)
        total += (attention * weight[..., None]).sum(1)
    return total


def _counted(q: Tensor, k: Tensor, g: Geometry) -> Iterator[tuple[Tensor, Tensor]]:
    """Queries [B, R] that have a weight, and their weights [B, R], block by block."""
    batch, queries, step = q.shape[0], q.shape[2], _step(q, k)
    if g.weights is None:
        columns = torch.arange(queries, device=q.device).expand(batch, -1)
        weights = torch.full((1, 1), 1.0 / max(queries, 1), dtype=k.dtype, device=q.device).expand(batch, queries)
    else:
        live = g.weights != 0
        width = int(live.sum(1).max())
        # the rows of a batch have different numbers of them: the missing ones, on the left, weigh nothing
        columns = torch.argsort(live.to(torch.int8), dim=1, stable=True)[:, queries - width :]
        weights = g.weights.to(k.dtype).gather(1, columns)
    yield from zip(columns.split(step, 1), weights.split(step, 1), strict=True)


def _rows(q: Tensor, k: Tensor, g: Geometry, rows: Tensor) -> Tensor:
    real = (rows >= 0) & (rows < g.max_q)
    if not g.max_q:
        return torch.zeros(*rows.shape, g.max_k, dtype=k.dtype, device=q.device)
    parts = [_attention(q, k, g, part) for part in torch.where(real, rows, 0).split(_step(q, k), 1)]
    return torch.cat(parts, 1).masked_fill(~real[..., None], 0.0)


def _packed(
    q: Tensor, k: Tensor, g: Geometry, received: bool, rows: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    total = torch.zeros(k.shape[2], dtype=k.dtype, device=q.device) if received else None
    chosen = None if rows is None else torch.zeros(*rows.shape, g.max_k, dtype=k.dtype, device=q.device)
    for s, (start, length) in enumerate(zip(g.q_start.tolist(), g.q_length.tolist(), strict=True)):
        cut, part = slice(start, start + length), g.part(start, length)
        if total is not None:
            total[cut] = _received(q[:, :, cut], k[:, :, cut], part)[0]
        if rows is not None and chosen is not None:
            chosen[s, :, :length] = _rows(q[:, :, cut], k[:, :, cut], part, rows[s : s + 1])[0]
    return total, chosen
