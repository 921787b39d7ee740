"""Budgets, packings, selection and merging against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtc.core.budget import keep_count, split_evenly
from vtc.core.layout import Packing
from vtc.core.merge import group_shares, grouped_mean
from vtc.core.select import topk_indices
from vtc.core.statistics.attention import AttentionCall, measure, received
from vtc.core.statistics.rows import class_row, mean_rows
from vtc.methods.pool import cell_groups, pooled_shape


@pytest.mark.parametrize(
    ("keep", "n", "expected"),
    [
        (1.0, 7, 7),
        (0.5, 5, 2),
        (0.5, 7, 4),
        (0.001, 50, 1),
        (3, 2, 2),
        (3, 9, 3),
        (0.1, 2880, 288),
        (0.25, 0, 0),
        (5, 0, 0),
    ],
)
def test_keep_count(keep, n, expected):
    assert keep_count(keep, n) == expected


@given(st.integers(0, 200), st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_split_evenly(total, sizes):
    shares = split_evenly(total, sizes)
    assert sum(shares) == min(total, sum(sizes))
    assert all(0 <= a <= b for a, b in zip(shares, sizes, strict=True))


def test_split_evenly_gives_the_remainder_to_the_first():
    assert split_evenly(11, [9, 9, 9]) == [4, 4, 3]
    assert split_evenly(11, [2, 9, 9]) == [2, 5, 4]


@given(st.integers(1, 4), st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_packing_against_loops(batch, length, seed):
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(batch, length, generator=generator) < 0.6
    keep[:, -1] = True
    packing = Packing.build(keep)
    x = torch.randn(batch, length, 3, generator=generator)
    packed = packing.take(x)
    back = packing.restore(packed)
    for b in range(batch):
        rows = keep[b].nonzero()[:, 0]
        assert torch.equal(packed[b, packing.width - len(rows) :], x[b, rows])
        last = rows[0]
        for column in range(length):
            last = column if keep[b, column] else last
            assert torch.equal(back[b, column], x[b, last])
    assert (packing.valid is None) == (len(set(keep.sum(1).tolist())) == 1)
    masks = torch.rand(batch, 1, length, 2 + length, generator=generator) < 0.5
    gathered = packing.take_mask(masks, past=2)
    for b in range(batch):
        rows = keep[b].nonzero()[:, 0]
        start = packing.width - len(rows)
        assert torch.equal(gathered[b, 0, start:, :2], masks[b, 0, rows, :2])
        assert torch.equal(gathered[b, 0, start:, 2 + start :], masks[b, 0, rows][:, 2 + rows])
        assert not gathered[b, 0, start:, 2 : 2 + start].any()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(0, 40))
def test_topk_breaks_ties_by_index(values, k):
    scores = torch.tensor(values, dtype=torch.float32)
    expected = sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])
    assert topk_indices(scores, k).tolist() == expected


def test_topk_refuses_nan():
    with pytest.raises(ValueError, match="NaN"):
        topk_indices(torch.tensor([1.0, torch.nan, 2.0]), 1)


def test_grouped_mean_by_hand():
    x = torch.tensor([[1.0], [3.0], [10.0], [7.0]])
    groups, weights = torch.tensor([0, 0, 1, -1]), torch.tensor([1.0, 3.0, 0.0, 5.0])
    assert grouped_mean(x, groups, weights, 2).tolist() == [[2.5], [10.0]]
    assert group_shares(groups, weights, 2).tolist() == [0.25, 0.75, 1.0, 0.0]


@pytest.mark.parametrize("kind", ["full", "causal", "window", "softcap", "padding", "additive", "blocks", "callable"])
def test_attention_statistics_against_the_dense_matrix(kind, monkeypatch):
    """Rows and column means from q and k, in blocks, against a float64 softmax of the whole matrix; GQA throughout."""
    monkeypatch.setattr("vtc.core.statistics.attention.BLOCK", 50)
    monkeypatch.setattr("vtc.kernels.attention.blocks.BLOCK", 200)
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(2, 4, 11, 8, generator=generator, dtype=torch.float64)
    k = torch.randn(2, 2, 11, 8, generator=generator, dtype=torch.float64)
    logits = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 0.3
    place = torch.arange(11)
    seen = torch.ones(2, 1, 11, 11, dtype=torch.bool)
    options = {}
    if kind in ("causal", "window"):
        seen &= place[None] <= place[:, None]
        options["causal"] = True
    if kind == "window":
        seen &= place[None] > place[:, None] - 4
        options["window"] = 4
    if kind == "softcap":
        logits = torch.tanh(logits / 2) * 2
        options["softcap"] = 2.0
    if kind == "padding":
        valid = torch.ones(2, 11, dtype=torch.bool)
        valid[0, :3] = False
        seen &= valid[:, None, None]
        options["mask"] = valid.long()
    if kind in ("additive", "blocks", "callable"):
        seen = torch.block_diag(torch.ones(4, 4), torch.ones(7, 7)).bool()[None, None].expand(2, 1, -1, -1)
        bias = torch.zeros(1, 1, 11, 11).masked_fill(~seen[:1], torch.finfo(torch.float32).min)
        options["mask"] = bias if kind == "additive" else seen[:1]
    if kind == "callable":
        options["mask"] = lambda rows: seen[:, 0].gather(1, rows[..., None].expand(-1, -1, 11))[:, None]
    weights = torch.softmax(logits.masked_fill(~seen, -torch.inf), -1)
    call = AttentionCall(q, k, 0.3, **options)
    rows = torch.tensor([[4, 9], [9, 2]])
    chosen = torch.stack([weights[0, :, [4, 9]], weights[1, :, [9, 2]]]).mean(1)
    assert torch.allclose(measure(call, received=False, rows=rows).rows, chosen, atol=1e-12)
    some = torch.tensor([[True, True], [True, False]])
    assert torch.allclose(mean_rows(call, rows, some), torch.stack([chosen[0].mean(0), chosen[1, 0]]), atol=1e-12)
    assert (mean_rows(call, rows, ~some)[0] == 0).all()
    assert torch.allclose(class_row(call), weights[:, :, 0, 1:].mean(1), atol=1e-12)
    expected = weights.mean(1).sum(1) / seen[:, 0].sum(1).clamp_min(1)
    assert torch.allclose(received(call), expected, atol=1e-12)


def test_received_of_packed_segments():
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(2, 1, 3, 12, 8, generator=generator).unbind(0)
    whole = received(AttentionCall(q, k, 0.3, segments=(5, 7)))
    parts = [received(AttentionCall(q[:, :, a:b], k[:, :, a:b], 0.3)) for a, b in ((0, 5), (5, 12))]
    assert torch.allclose(whole, torch.cat(parts, 1))
    assert torch.allclose(whole[:, :5].sum(), torch.tensor(1.0))


def test_a_class_row_needs_one_class_token():
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(2, 1, 3, 12, 8, generator=generator).unbind(0)
    alone = class_row(AttentionCall(q, k, 0.3))
    assert torch.equal(class_row(AttentionCall(q, k, 0.3, segments=(12,))), alone)
    with pytest.raises(ValueError, match="2 images packed into one row"):
        class_row(AttentionCall(q, k, 0.3, segments=(5, 7)))


def test_causal_segments_count_the_queries_that_see_a_key():
    generator = torch.Generator().manual_seed(2)
    q, k = torch.randn(2, 1, 3, 12, 8, generator=generator).unbind(0)
    whole = received(AttentionCall(q, k, 0.3, causal=True, segments=(5, 7)))
    parts = [received(AttentionCall(q[:, :, a:b], k[:, :, a:b], 0.3, causal=True)) for a, b in ((0, 5), (5, 12))]
    assert torch.allclose(whole, torch.cat(parts, 1))
    # the last key of a segment is seen by its own query alone
    score = (q[0, :, 4] * k[0, :, :5].transpose(0, 1) * 0.3).sum(-1).softmax(0)
    assert torch.allclose(whole[0, 4], score[4].mean())


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 1700))
@settings(max_examples=60, deadline=None)
def test_pooling_lattice_fits_the_budget(height, width, budget):
    rows, cols = pooled_shape(height, width, budget)
    assert 1 <= rows <= height
    assert 1 <= cols <= width
    assert rows * cols <= budget
    cells = cell_groups(height, width, budget)
    assert len(cells.unique()) == rows * cols


def test_pooling_keeps_a_square_square():
    assert pooled_shape(24, 24, 144) == (12, 12)
    assert pooled_shape(24, 24, 64) == (8, 8)
    assert pooled_shape(10, 20, 50) == (5, 10)
