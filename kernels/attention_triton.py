"""Device code of :mod:`vtc.kernels.attention_stats`: log-sums, weighted columns, chosen rows."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from .tiles_triton import exact_dot


@triton.jit
def score_tile(
    query, k, mask, position, position_ok, column, k_n, k_length, offset, depth, scale,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Scores, in units of log2, of a tile of queries with a tile of keys; -inf where a query does not see a key."""
    d = tl.arange(0, BLOCK_D)
    column_ok = column < k_length
    key = tl.load(k + column[None, :] * k_n + d[:, None], mask=column_ok[None, :] & (d < depth)[:, None], other=0.0)
    score = exact_dot(query, key, tl.zeros([query.shape[0], column.shape[0]], tl.float32), WIDEN) * scale
    seen = position_ok[:, None] & column_ok[None, :]
    if CAUSAL:
        seen &= column[None, :] <= (position + offset)[:, None]
    if MASKED:
        seen &= (tl.load(mask + column, mask=column_ok, other=0) != 0)[None, :]
    return tl.where(seen, score, float("-inf"))


@triton.jit
def sharp_exp2(score, log_sum):
    """2 ** (score - log_sum) with 0 for rows that see nothing, whose log-sum is -inf."""
    return tl.where(score == float("-inf"), 0.0, tl.exp2(score - tl.where(log_sum == float("-inf"), 0.0, log_sum)))


@triton.jit
def log_sum_kernel(
    q, k, mask, weights, chosen, group, log_sum, sums, q_start, q_length, k_start, k_length, rows, depth, share, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, mask_b, weight_b, group_b,
    CHOSEN: tl.constexpr, WEIGHTED: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, GROUPS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (i, h, s): log2-sum-exp2 of a tile of query rows and, if wanted, their sums over groups of keys."""
    segment, head = tl.program_id(2).to(tl.int64), tl.program_id(1).to(tl.int64)
    queries, keys = tl.load(q_length + segment), tl.load(k_length + segment)
    left = tl.load(k_start + segment).to(tl.int64)
    top = tl.load(q_start + segment).to(tl.int64)
    slot = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    position = slot
    if CHOSEN:
        position = tl.load(chosen + segment * rows + slot, mask=slot < rows, other=-1).to(tl.int32)
    ok = (slot < rows) & (position >= 0) & (position < queries)
    if WEIGHTED:
        weight = tl.load(weights + segment * weight_b + top + position, mask=ok, other=0.0)
        ok &= weight != 0
    d = tl.arange(0, BLOCK_D)
    q += segment * q_b + head * q_h
    at = q + (top + position)[:, None] * q_n + d[None, :]
    query = tl.load(at, mask=ok[:, None] & (d < depth)[None, :], other=0.0)
    k += segment * k_b + (head // share) * k_h + left * k_n
    mask += segment * mask_b + left
    group += segment * group_b + left
    offset = keys - queries
    stop = tl.max(tl.where(ok, position + 1, 0), 0)
    stop = tl.where(stop > 0, tl.minimum(stop + offset, keys) if CAUSAL else keys, 0)
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    g = tl.arange(0, 16)
    parts = tl.zeros([ROWS, 16], tl.float32)
    for start in range(0, stop, COLUMNS):
        column = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        score = score_tile(
            query, k, mask, position, ok, column, k_n, keys, offset, depth, scale, CAUSAL, MASKED, BLOCK_D, WIDEN
        )
        new = tl.maximum(peak, tl.max(score, 1))
        fade = sharp_exp2(peak, new)
        p = sharp_exp2(score, new[:, None])
        total = total * fade + tl.sum(p, 1)
        peak = new
        if GROUPS:
            own = tl.load(group + column, mask=column < keys, other=-1)
            parts = exact_dot(p, (own[:, None] == g[None, :]).to(tl.float32), parts * fade[:, None], False)
    at = (segment * tl.num_programs(1) + head) * rows + slot
    seen = total > 0
    tl.store(log_sum + at, tl.where(seen, peak + tl.log2(tl.where(seen, total, 1.0)), float("-inf")), mask=slot < rows)
    if GROUPS:
        parts = parts / tl.where(seen, total, 1.0)[:, None]
        tl.store(sums + at[:, None] * GROUPS + g[None, :], parts, mask=(slot < rows)[:, None] & (g < GROUPS)[None, :])


@triton.jit
def column_kernel(
    q, k, mask, weights, log_sum, out, q_start, q_length, k_start, k_length, rows, columns, depth, share, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, mask_b, weight_b, out_b, out_h,
    WEIGHTED: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr, PACKED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (j, h, s): weighted sums of a tile of attention columns of one head over all queries."""
    segment, head = tl.program_id(2).to(tl.int64), tl.program_id(1).to(tl.int64)
    queries, keys = tl.load(q_length + segment), tl.load(k_length + segment)
    left = tl.load(k_start + segment).to(tl.int64)
    top = tl.load(q_start + segment).to(tl.int64)
    low = tl.program_id(0) * COLUMNS
    column = (low + tl.arange(0, COLUMNS)).to(tl.int64)
    q += segment * q_b + head * q_h + top * q_n
    k += segment * k_b + (head // share) * k_h + left * k_n
    mask += segment * mask_b + left
    log_sum += (segment * tl.num_programs(1) + head) * rows
    offset = keys - queries
    d = tl.arange(0, BLOCK_D)
    total = tl.zeros([COLUMNS], tl.float32)
    begin = 0
    if CAUSAL:
        begin = tl.maximum(low - offset, 0) // ROWS * ROWS
    stop = tl.where(low < keys, queries, 0)
    for start in range(begin, stop, ROWS):
        position = start + tl.arange(0, ROWS)
        ok = position < queries
        weight = tl.where(ok, 1.0 / queries.to(tl.float32), 0.0)
        if WEIGHTED:
            weight = tl.load(weights + segment * weight_b + top + position, mask=ok, other=0.0)
            ok &= weight != 0
        if tl.max(ok.to(tl.int32), 0) > 0:
            at = q + position[:, None].to(tl.int64) * q_n + d[None, :]
            query = tl.load(at, mask=ok[:, None] & (d < depth)[None, :], other=0.0)
            score = score_tile(
                query, k, mask, position, ok, column, k_n, keys, offset, depth, scale, CAUSAL, MASKED, BLOCK_D, WIDEN
            )
            p = sharp_exp2(score, tl.load(log_sum + position, mask=ok, other=0.0)[:, None])
            total += tl.sum(p * weight[:, None], 0)
    # dense outputs are zeroed beyond their length; in a packed one those columns belong to the next segment
    edge = keys if PACKED else columns
    tl.store(out + segment * out_b + head * out_h + left + column, total, mask=column < edge)


@triton.jit
def rows_kernel(
    q, k, mask, chosen, log_sum, out, q_start, q_length, k_start, k_length, rows, columns, depth, heads, share, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, mask_b,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (j, i, s): head mean of a tile of the chosen attention rows; ``heads`` counts the key heads."""
    segment = tl.program_id(2).to(tl.int64)
    queries, keys = tl.load(q_length + segment), tl.load(k_length + segment)
    slot = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    position = tl.load(chosen + segment * rows + slot, mask=slot < rows, other=-1).to(tl.int32)
    ok = (position >= 0) & (position < queries)
    column = (tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    q += segment * q_b + tl.load(q_start + segment).to(tl.int64) * q_n
    left = tl.load(k_start + segment).to(tl.int64)
    k += segment * k_b + left * k_n
    mask += segment * mask_b + left
    log_sum += segment * heads * share * rows
    d = tl.arange(0, BLOCK_D)
    query_ok = ok[:, None] & (d < depth)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for _ in range(heads):
        for _ in range(share):
            query = tl.load(q + position[:, None].to(tl.int64) * q_n + d[None, :], mask=query_ok, other=0.0)
            score = score_tile(
                query, k, mask, position, ok, column, k_n, keys, keys - queries, depth, scale, CAUSAL, MASKED, BLOCK_D, WIDEN
            )
            total += sharp_exp2(score, tl.load(log_sum + slot, mask=ok, other=0.0)[:, None])
            q += q_h
            log_sum += rows
        k += k_h
    at = out + (segment * rows + slot)[:, None] * columns + column[None, :]
    tl.store(at, total / (heads * share), mask=(slot < rows)[:, None] & (column < columns)[None, :])
