"""Torch code of :func:`vtc.kernels.attention_stats`: plain softmax of as many query rows as fit a block.

Also knows what the kernel does not: 4-D masks, windows and softcaps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._ragged import accumulator
from ._geometry import Geometry, Mask

# attention scores held at a time; on the CPU no more than stay in a cache (2 MB in fp32), which is 2 to 3 times faster
BLOCK = 1 << 22
CPU_BLOCK = 1 << 19
SMALLEST = 32


def attention_torch(
    q: Tensor, k: Tensor, geometry: Geometry, received: bool, rows: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Received attention ([B, Lk], packed [T]) and attention of the chosen ``rows`` ([S, R, Lk])."""
    # once, not for every block
    k = k.to(accumulator(q, k))
    if geometry.start is not None and geometry.length is not None:
        segments = zip(geometry.start.tolist(), geometry.length.tolist(), strict=True)
        return _packed(q, k, geometry, received, rows, list(segments))
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
    mask: Mask | None = None,
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
    if isinstance(mask, Tensor):
        picked = _mask_rows(mask, rows)
        # a NaN in a mask hides nothing: it spoils the row, which shows
        seen.append(picked if mask.dtype == torch.bool else ~(picked <= torch.finfo(mask.dtype).min / 2))
    elif mask is not None:
        seen.append(mask(rows))
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


def _attention(query: Tensor, k: Tensor, g: Geometry, rows: Tensor) -> Tensor:
    """Attention, mean over the heads, of the queries ``query`` [B, H, R, d], which are ``rows`` [B, R]: [B, R, Lk]."""
    batch, heads, count, depth = query.shape
    groups = k.shape[1]
    # grouped queries share keys: their heads lie beside each other and become rows of one product
    query = (query.to(k.dtype) * g.scale).reshape(batch, groups, heads // groups * count, depth)
    score = (query @ k.mT).view(batch, heads, count, k.shape[2])
    if g.softcap is not None:
        score = torch.tanh(score / g.softcap) * g.softcap
    seen = visible_keys(rows, g.queries, g.keys, causal=g.causal, window=g.window, key_mask=g.key_mask, mask=g.mask)
    if seen is None:
        return score.softmax(-1).mean(1)
    score = score.masked_fill(~seen, -torch.inf)
    if isinstance(g.mask, Tensor) and g.mask.dtype != torch.bool:
        score = score + _mask_rows(g.mask, rows).to(score.dtype)
    # rows that see nothing are zero, not NaN; other NaN stays what it is
    blind = ~seen.any(-1, keepdim=True)
    if blind.shape[1] == 1:  # the same for all heads: fill the mean
        return score.softmax(-1).mean(1).masked_fill(blind[:, 0], 0.0)
    return score.softmax(-1).masked_fill(blind, 0.0).mean(1)


def _chosen(q: Tensor, k: Tensor, g: Geometry, rows: Tensor) -> Tensor:
    """Attention of the queries ``rows`` [B, R]: [B, R, Lk]."""
    query = q.gather(2, rows[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3]))
    return _attention(query, k, g, rows)


def _step(q: Tensor, k: Tensor) -> int:
    """Query rows of a block; in a cache or not, no fewer than make a matrix product worth while."""
    row = max(1, q.shape[0] * q.shape[1] * k.shape[2])
    most = max(1, BLOCK // row)
    return most if q.device.type != "cpu" else min(most, max(CPU_BLOCK // row, SMALLEST))


def _received(q: Tensor, k: Tensor, g: Geometry) -> Tensor:
    batch, step = q.shape[0], _step(q, k)
    total = torch.zeros(batch, k.shape[2], dtype=k.dtype, device=q.device)
    if g.weights is None:
        every = torch.arange(g.queries, device=q.device).expand(batch, -1)
        for start in range(0, g.queries, step):
            stop = start + step
            total += _attention(q[:, :, start:stop], k, g, every[:, start:stop]).sum(1)
        return total / max(g.queries, 1)
    columns = _live(g.weights)
    weights = g.weights.to(k.dtype).gather(1, columns)[..., None]
    for rows, weight in zip(columns.split(step, 1), weights.split(step, 1), strict=True):
        # a select as well as a product: what does not count may hold NaN
        total += (_chosen(q, k, g, rows) * weight).masked_fill(weight == 0, 0.0).sum(1)
    return total


def _live(weights: Tensor) -> Tensor:
    """Columns [B, R] whose weight is not zero; rows with fewer of them have others, of no weight, on the left."""
    live = weights != 0
    if len(live) == 1:
        return live[0].nonzero()[:, 0][None]
    width = int(live.sum(1).max())
    return torch.argsort(live.to(torch.int8), dim=1, stable=True)[:, live.shape[1] - width :]


def _rows(q: Tensor, k: Tensor, g: Geometry, rows: Tensor) -> Tensor:
    if not g.queries:
        return torch.zeros(*rows.shape, g.keys, dtype=k.dtype, device=q.device)
    missing, step = (rows < 0) | (rows >= g.queries), _step(q, k)
    rows = rows.masked_fill(missing, 0)
    if rows.shape[1] <= step:
        found = _chosen(q, k, g, rows)
    else:
        found = torch.cat([_chosen(q, k, g, part) for part in rows.split(step, 1)], 1)
    return found.masked_fill_(missing[..., None], 0.0)


def _packed(
    q: Tensor, k: Tensor, g: Geometry, received: bool, rows: Tensor | None, segments: list[tuple[int, int]]
) -> tuple[Tensor | None, Tensor | None]:
    total = torch.zeros(k.shape[2], dtype=k.dtype, device=q.device) if received else None
    chosen = None if rows is None else torch.zeros(*rows.shape, g.keys, dtype=k.dtype, device=q.device)
    for s, (start, length) in enumerate(segments):
        cut, part = slice(start, start + length), g.part(start, length)
        if total is not None:
            total[cut] = _received(q[:, :, cut], k[:, :, cut], part)[0]
        if rows is not None and chosen is not None:
            chosen[s, :, :length] = _rows(q[:, :, cut], k[:, :, cut], part, rows[s : s + 1])[0]
    return total, chosen
