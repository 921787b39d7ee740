"""Device code of :mod:`vtc.kernels.attention.triton`: log-sums, weighted columns, chosen rows.

Strides of q and k come divided by ``UNIT`` and are multiplied back here: that tells the compiler that addresses are
multiples of it. Rows and columns that do not exist are read from an existing place and hidden afterwards, which costs
one comparison per score instead of masks on every load.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from .._tiles import exact_dot

# hidden keys stand at a place no query can see, queries that do not count can see no place
NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def score_tile(
    query, key, limit, place, scale,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Scores in units of log2 of a tile of queries with a tile of keys, given their addresses; -inf where hidden."""
    product = tl.zeros([ROWS, COLUMNS], tl.float32)
    for low in tl.static_range(0, DEPTH, BLOCK_D):
        d = low + tl.arange(0, BLOCK_D)
        if low + BLOCK_D <= DEPTH:
            a = tl.load(query[:, None] + d[None, :])
            b = tl.load(key[None, :] + d[:, None])
        else:
            a = tl.load(query[:, None] + d[None, :], mask=(d < DEPTH)[None, :], other=0.0)
            b = tl.load(key[None, :] + d[:, None], mask=(d < DEPTH)[:, None], other=0.0)
        product = exact_dot(a, b, product, WIDEN)
    # a select, not a sum: what is hidden may hold NaN
    return tl.where(place[None, :] <= limit[:, None], product * scale, float("-inf"))


@triton.jit
def key_tile(k, mask, start, keys, stride, COLUMNS: tl.constexpr, MASKED: tl.constexpr):
    """Addresses and places of the keys from ``start`` on."""
    column = start + tl.arange(0, COLUMNS)
    safe = tl.minimum(column, keys - 1)
    visible = column < keys
    if MASKED:
        visible &= tl.load(mask + safe) != 0
    return k + safe.to(tl.int64) * stride, tl.where(visible, column, NOWHERE)


@triton.jit
def segment_of(q_start, q_length, k_start, k_length, segment):
    """Numbers of queries and keys of a segment, and where its first of each lie."""
    queries, keys = tl.load(q_length + segment), tl.load(k_length + segment)
    return queries, keys, tl.load(q_start + segment).to(tl.int64), tl.load(k_start + segment).to(tl.int64)


@triton.jit
def sight(position, ok, queries, keys, CAUSAL: tl.constexpr):
    """Last place each query can see, -1 for queries that do not count.

    Without a causal mask any number beyond the keys would do, but from a constant the compiler makes boolean masks, of
    which AMD has too few registers.
    """
    return tl.where(ok, position + keys - queries if CAUSAL else position + keys, -1)


@triton.jit
def finite(log_sum):
    """Replace the -inf of rows that see nothing, so that exp2(-inf - it) is 0 and not NaN."""
    return tl.where(log_sum == float("-inf"), 0.0, log_sum)


@triton.jit
def log_sum_kernel(
    q, k, mask, weights, chosen, log_sum, q_start, q_length, k_start, k_length, rows, share, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, key_b, weight_b,
    CHOSEN: tl.constexpr, WEIGHTED: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr,
    UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, BLOCK_D: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (i, h, s): log2-sum-exp2 of a tile of query rows."""
    segment, head = tl.program_id(2).to(tl.int64), tl.program_id(1).to(tl.int64)
    queries, keys, top, left = segment_of(q_start, q_length, k_start, k_length, segment)
    slot = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    position = slot
    if CHOSEN:
        position = tl.load(chosen + segment * rows + slot, mask=slot < rows, other=-1).to(tl.int32)
    ok = (slot < rows) & (position >= 0) & (position < queries)
    if WEIGHTED:
        ok &= tl.load(weights + segment * weight_b + top + position, mask=ok, other=0.0) != 0
    limit = sight(position, ok, queries, keys, CAUSAL)
    query = q + (segment * q_b + head * q_h) * UNIT + (top + tl.where(ok, position, 0)) * (q_n * UNIT)
    k += (segment * k_b + (head // share) * k_h + left * k_n) * UNIT
    mask += segment * key_b + left
    stop = tl.minimum(tl.maximum(tl.max(limit, 0), -1), keys - 1) + 1
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, stop, COLUMNS):
        key, place = key_tile(k, mask, start, keys, k_n * UNIT, COLUMNS, MASKED)
        score = score_tile(query, key, limit, place, scale, ROWS, COLUMNS, DEPTH, BLOCK_D, WIDEN)
        new = tl.maximum(peak, tl.max(score, 1))
        total = total * tl.exp2(peak - finite(new)) + tl.sum(tl.exp2(score - finite(new)[:, None]), 1)
        peak = new
    at = (segment * tl.num_programs(1) + head) * rows + slot
    seen = total > 0
    tl.store(log_sum + at, tl.where(seen, peak + tl.log2(tl.where(seen, total, 1.0)), float("-inf")), mask=slot < rows)


@triton.jit
def column_kernel(
    q, k, mask, weights, log_sum, out, q_start, q_length, k_start, k_length, rows, columns, share, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, key_b, weight_b, out_b, out_h,
    WEIGHTED: tl.constexpr, PACKED: tl.constexpr, CAUSAL: tl.constexpr, MASKED: tl.constexpr,
    UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, BLOCK_D: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (j, h, s): weighted sums of a tile of attention columns of one head over all queries."""
    segment, head = tl.program_id(2).to(tl.int64), tl.program_id(1).to(tl.int64)
    queries, keys, top, left = segment_of(q_start, q_length, k_start, k_length, segment)
    low = tl.program_id(0) * COLUMNS
    q += (segment * q_b + head * q_h + top * q_n) * UNIT
    k += (segment * k_b + (head // share) * k_h + left * k_n) * UNIT
    key, place = key_tile(k, mask + segment * key_b + left, low, keys, k_n * UNIT, COLUMNS, MASKED)
    log_sum += (segment * tl.num_programs(1) + head) * rows
    weights += segment * weight_b + top
    total = tl.zeros([COLUMNS], tl.float32)
    begin = tl.maximum(low - keys + queries, 0) // ROWS * ROWS if CAUSAL else 0
    stop = tl.where(low < keys, queries, 0)
    for start in range(begin, stop, ROWS):
        position = start + tl.arange(0, ROWS)
        ok = position < queries
        weight = tl.where(ok, 1.0 / queries.to(tl.float32), 0.0)
        if WEIGHTED:
            weight = tl.load(weights + position, mask=ok, other=0.0)
            ok &= weight != 0
        if tl.max(ok.to(tl.int32), 0) > 0:
            query = q + tl.minimum(position, queries - 1).to(tl.int64) * (q_n * UNIT)
            limit = sight(position, ok, queries, keys, CAUSAL)
            score = score_tile(query, key, limit, place, scale, ROWS, COLUMNS, DEPTH, BLOCK_D, WIDEN)
            log = finite(tl.load(log_sum + position, mask=ok, other=0.0))
            total += tl.sum(tl.exp2(score - log[:, None]) * weight[:, None], 0)
    # dense outputs are zeroed beyond their length; in a packed one those columns belong to the next segment
    column = low + tl.arange(0, COLUMNS)
    edge = keys if PACKED else columns
    tl.store(out + segment * out_b + head * out_h + left + column, total, mask=column < edge)


@triton.jit
def rows_kernel(
    q, k, mask, chosen, log_sum, out, q_start, q_length, k_start, k_length, rows, columns, heads, share, scale,
    q_b, q_h, q_n, k_b, k_h, k_n, key_b,
    CAUSAL: tl.constexpr, MASKED: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr, BLOCK_D: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Program (j, i, s): head mean of a tile of the chosen attention rows; ``heads`` counts the key heads."""
    segment = tl.program_id(2).to(tl.int64)
    queries, keys, top, left = segment_of(q_start, q_length, k_start, k_length, segment)
    low = tl.program_id(0) * COLUMNS
    slot = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    position = tl.load(chosen + segment * rows + slot, mask=slot < rows, other=-1).to(tl.int32)
    ok = (slot < rows) & (position >= 0) & (position < queries)
    limit = sight(position, ok, queries, keys, CAUSAL)
    query = q + segment * q_b * UNIT + (top + tl.where(ok, position, 0)) * (q_n * UNIT)
    k += (segment * k_b + left * k_n) * UNIT
    key, place = key_tile(k, mask + segment * key_b + left, low, keys, k_n * UNIT, COLUMNS, MASKED)
    log_sum += segment * heads * share * rows
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    # tiles beyond the last key only write zeros
    for _ in range(tl.where(low < keys, heads, 0)):
        for _ in range(share):
            score = score_tile(query, key, limit, place, scale, ROWS, COLUMNS, DEPTH, BLOCK_D, WIDEN)
            log = finite(tl.load(log_sum + slot, mask=ok, other=0.0))
            total += tl.exp2(score - log[:, None])
            query += q_h * UNIT
            log_sum += rows
        key += k_h * UNIT
    column = low + tl.arange(0, COLUMNS)
    at = out + (segment * rows + slot)[:, None] * columns + column[None, :]
    tl.store(at, total / (heads * share), mask=(slot < rows)[:, None] & (column < columns)[None, :])
