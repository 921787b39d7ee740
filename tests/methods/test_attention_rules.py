"""VScan, VisPruner and HoloV: worked examples, loops, properties, edges."""

from __future__ import annotations

import math

import pytest
import torch

import vtc
from vtc.core.diversity import unit_rows
from vtc.core.stage import Decoder, ModelFacts, Projector
from vtc.methods import make_method
from vtc.methods._windows import best_of_windows, windows_of
from vtc.methods.holov import band_budgets, bands_of
from vtc.methods.vispruner import thin_out

from support import tiny, tiny_families
from support.golden.attention_rules import crops_view
from support.oracles.views import plain_view

FACTS = ModelFacts(family="llava", vision_layers=24, feature_layer=22, has_class_token=True, decoder_layers=32)


def random(seed, n, d=16):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def attention(seed, n):
    return torch.softmax(2 * random(seed, n, 1)[:, 0], 0)


def select(name, x, keep, scores, **options):
    stage = make_method(name, keep=keep, **options).stages(FACTS)[0]
    return stage.select(plain_view(x, stage.keep_count, dict.fromkeys(stage.needs, scores)))


# -- windows and VScan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("grid", "side", "k"), [((4, 4), 2, 4), ((9, 7), 4, 13), ((3, 2), 6, 4), ((12, 16), 4, 24)])
def test_a_walk_takes_no_more_of_a_window_than_allowed(seed, grid, side, k):
    scores = attention(seed, grid[0] * grid[1])
    window, count = windows_of(torch.arange(len(scores)), grid, side)
    rows, cols = max(1, grid[0] // side), max(1, grid[1] // side)
    where = lambda i: min(i // grid[1] // side, rows - 1) * cols + min(i % grid[1] // side, cols - 1)  # noqa: E731
    assert count == rows * cols and window.tolist() == [where(i) for i in range(len(scores))]
    taken, seen = [], {}
    for i in sorted(range(len(scores)), key=lambda i: -float(scores[i])):
        if seen.get(where(i), 0) < math.ceil(k / count) and len(taken) < k:
            taken.append(i)
            seen[where(i)] = seen.get(where(i), 0) + 1
    assert best_of_windows(scores, window, count, k).tolist() == taken


def test_the_strongest_of_each_quadrant_whatever_the_others_are():
    scores = torch.zeros(16)
    scores[[0, 1, 4, 5]] = torch.tensor([9.0, 8, 7, 6])
    window, count = windows_of(torch.arange(16), (4, 4), 2)
    assert best_of_windows(scores, window, count, 4).tolist() == [0, 2, 8, 10]
    assert best_of_windows(scores, window, count, 0).tolist() == []


def test_groups_of_vscan_hold_every_token_of_their_crop():
    x, scores = random(1, 144), attention(1, 144)
    (stage, _) = make_method("vscan", keep=20).stages(FACTS)
    view = crops_view(x[None], stage, dict.fromkeys(stage.needs, scores), (12, 12))
    found = stage.select(view)
    assert len(found.keep) == 30 and (found.groups >= 0).all()
    sizes = torch.bincount(found.groups)
    torch.testing.assert_close((found.values * sizes[:, None]).sum(0), x.sum(0), atol=1e-3, rtol=1e-4)
    unit = unit_rows(x)
    for token, group in enumerate(found.groups.tolist()):
        if token not in found.keep.tolist():
            assert group == int((unit[found.keep] @ unit[token]).argmax())


def test_the_mean_over_layers_is_keep():
    method = make_method("vscan", keep=64)
    stages = method.stages(FACTS)
    assert [type(s.at) for s in stages] == [Projector, Decoder] and stages[1].at.layer == 16
    assert (method.entering(576), method.left(576)) == (96, 32)
    for keep in (0.05, 0.25, 0.5, 0.8, 1.0):
        method = make_method("vscan", keep=keep)
        method.stages(FACTS)
        first, last = method.entering(576), method.left(576)
        assert (first + last) / 2 == round(keep * 576) and first <= 576
    method = make_method("vscan", keep=64, stage2="off")
    assert len(method.stages(FACTS)) == 1 and method.entering(576) == 64
    linear = ModelFacts(vision_layers=24, feature_layer=22, has_class_token=True, decoder_layers=8, linear_layers=(5,))
    assert len(make_method("vscan").stages(linear)) == 1


def test_vscan_in_a_model_keeps_what_it_promises():
    case = tiny_families.ALL["llava-clip"]
    model, inputs = case.build(), tiny.alone(case, 0)
    with vtc.patched(model, "vscan", keep=0.25) as handle, torch.no_grad():
        model(**inputs)
        (image,) = handle.last.images
        n = image.before
        assert [len(kept) for _, kept in image.cuts] == [
            round(1.5 * round(n / 4)),
            round(n / 2) - round(1.5 * (n // 4)),
        ]


# -- VisPruner ---------------------------------------------------------------------------------------------------------


def test_the_worked_example_of_thinning_out():
    cosines = torch.eye(4)
    for i, j, value in ((0, 1, 0.9), (0, 3, 0.2), (2, 1, 0.1), (2, 3, 0.8), (0, 2, 0.1), (1, 3, 0.2)):
        cosines[i, j] = cosines[j, i] = value
    unit = torch.linalg.cholesky(cosines)
    assert sorted(thin_out(unit, 3, 8).tolist()) == [1, 2, 3]


@pytest.mark.parametrize("n", [24, 25, 57])
@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_thinning_out_is_the_rule_written_out(n, count):
    x = unit_rows(random(n, n))
    rest = list(range(n)) if count else []
    while len(rest) > count:
        ours, theirs = rest[0::2], rest[1::2]
        if not theirs:
            break
        drops = min(8, len(rest) - count, len(rest) // 2)
        sims = [max(float(x[a] @ x[b]) for b in theirs) for a in ours]
        order = sorted(range(len(ours)), key=lambda i: -sims[i])
        rest = [ours[i] for i in order[drops:]] + theirs
    assert thin_out(x, count, 8).tolist() == rest and len(rest) == count


def test_important_tokens_stay_and_all_of_them_is_top_k():
    x, scores = random(3, 60), attention(3, 60)
    top = scores.sort(descending=True).indices
    kept = select("vispruner", x, 20, scores).keep
    assert len(kept) == 20 and set(top[:10].tolist()) <= set(kept.tolist())
    assert select("vispruner", x, 20, scores, important=1.0).keep.tolist() == sorted(top[:20].tolist())
    assert select("vispruner", x, 1, scores).keep.tolist() == [int(top[0])]


# -- HoloV -------------------------------------------------------------------------------------------------------------


def test_the_worked_example_of_bands():
    scores = torch.tensor([0.1, 0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert select("holov", random(0, 8), 3, scores, bands=4).keep.tolist() == [0, 2, 3]
    assert [band.tolist() for band in bands_of(torch.arange(7), 3)] == [[0, 1, 2], [3, 4], [5, 6]]
    assert len(bands_of(torch.arange(3), 8)) == 3


@pytest.mark.parametrize("total", range(1, 20))
def test_no_token_of_the_budget_is_lost(total):
    weights, sizes = torch.tensor([5.0, 0.1, 0.2, 0.0]), [4, 6, 7, 3]
    counts = band_budgets(total, weights, sizes, "redistribute")
    assert sum(counts) == total and all(c <= n for c, n in zip(counts, sizes, strict=True))
    assert sum(band_budgets(total, weights, sizes, "drop")) <= total


def test_features_matter_only_where_they_rank():
    scores = attention(4, 96)
    first = select("holov", random(5, 96), 24, scores, bands=6).keep.tolist()
    assert select("holov", random(6, 96), 24, scores, bands=6).keep.tolist() == first
    ranked = [
        select("holov", random(s, 96), 24, scores, bands=6, rank="score", alpha=50.0).keep.tolist() for s in (5, 6)
    ]
    assert ranked[0] != ranked[1]


@pytest.mark.parametrize("name", ["vscan", "vispruner", "holov"])
def test_edges(name):
    flat = torch.full((16,), 1 / 16)
    assert select(name, random(0, 16), 16, flat).keep.tolist() == list(range(16))
    assert len(select(name, random(0, 16), 1, flat, **({"stage2": "off"} if name == "vscan" else {})).keep) == 1
    assert len(select(name, torch.ones(16, 4), 4, flat).keep) == (6 if name == "vscan" else 4)
    assert len(select(name, torch.zeros(16, 4), 4, flat).keep) == (6 if name == "vscan" else 4)
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(name, random(0, 16), 4, torch.full((16,), torch.nan))
    stage = make_method(name, keep=7).stages(FACTS)[0]
    view = crops_view(
        random(1, 24)[None].reshape(3, 8, 16), stage, dict.fromkeys(stage.needs, attention(1, 24)), (2, 4)
    )
    kept = stage.select(view).keep
    assert len(kept) == (10 if name == "vscan" else 7) and kept.tolist() == sorted(set(kept.tolist()))
