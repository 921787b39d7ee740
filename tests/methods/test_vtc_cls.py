import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.layout import Role
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support.oracles import modest
from support.oracles.views import anyres_index, plain_view, tiled_view

CLIP = ModelFacts("llava", 24, 22, True, tuple(range(24)), 32)
SIGLIP = ModelFacts("llava_onevision", 26, 25, False, tuple(range(26)), 28)
QWEN = ModelFacts("qwen2_5_vl", 32, 31, False, (7, 15, 23, 31), 28, True)


def stage_of(facts=CLIP, **options):
    (stage,) = make_method("vtc-cls", **options).stages(facts)
    return stage


def select(rows, facts, **options):
    """``rows`` [L, H, N]: [CLS] attention of every layer."""
    stage = stage_of(facts, **options)
    stats = {need: rows[need.layer].mean(0) for need in stage.needs}
    return stage.select(plain_view(torch.zeros(rows.shape[-1], 1), stage.keep_count, stats))


def small(layers):
    return ModelFacts("llava", layers, layers - 2, True, tuple(range(layers)), 4)


@pytest.mark.parametrize(("keep", "kept"), [(2, [1, 2]), (3, [1, 2, 3])])
def test_worked_example(keep, kept):
    rows = torch.zeros(4, 2, 4)
    rows[1] = torch.tensor([[0.10, 0.40, 0.20, 0.10], [0.30, 0.20, 0.10, 0.20]])
    rows[2] = torch.tensor([[0.05, 0.15, 0.45, 0.15], [0.15, 0.05, 0.35, 0.25]])
    rows[3] = torch.tensor([0.9, 0.0, 0.0, 0.1])
    found = select(rows, small(4), keep=keep, start_layer=1)
    assert found.keep.tolist() == kept
    torch.testing.assert_close(found.scores, torch.tensor([0.30, 0.40, 0.55, 0.35]))


JOIN = {"sum": sum, "max": max, "min": min}


@modest
@given(
    st.integers(0, 999),
    st.integers(3, 9),
    st.integers(1, 60),
    st.sampled_from(["sum", "max", "min"]),
    st.one_of(st.integers(1, 70), st.floats(0.01, 1.0)),
)
def test_matches_the_brute_force(seed, layers, n, ensemble, keep):
    logits = torch.randn(layers, 3, n + 1, generator=torch.Generator().manual_seed(seed))
    rows = logits.softmax(-1)[..., 1:]
    start = seed % (layers - 1)
    exact = rows.double()[start : layers - 1].mean(1)
    scores = [JOIN[ensemble](column) for column in exact.T.tolist()]
    found = select(rows, small(layers), keep=keep, start_layer=start, ensemble=ensemble)
    count = stage_of(small(layers), keep=keep, start_layer=start).keep_count(n)
    best = sorted(sorted(range(n), key=lambda j: -scores[j])[:count])
    assert found.keep.tolist() == best


@modest
@given(st.integers(0, 999), st.integers(2, 40))
def test_other_layers_and_the_order_of_heads_do_not_matter(seed, n):
    rows = torch.rand(6, 4, n, generator=torch.Generator().manual_seed(seed))
    before = select(rows, small(6), keep=0.4, start_layer=2).keep
    rows[:2], rows[5:] = 7.0, 3.0
    assert torch.equal(select(rows.flip(1), small(6), keep=0.4, start_layer=2).keep, before)


def test_smaller_budgets_are_subsets():
    rows = torch.rand(6, 2, 50, generator=torch.Generator().manual_seed(0))
    kept = [set(select(rows, small(6), keep=k).keep.tolist()) for k in (3, 11, 30)]
    assert kept[0] < kept[1] < kept[2]


def test_ties_go_to_the_lower_index():
    assert select(torch.ones(4, 2, 9), small(4), keep=4).keep.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("facts", "layers", "stat"),
    [
        (CLIP, list(range(16, 23)), "class_row"),
        (SIGLIP, list(range(17, 26)), "received"),
        (QWEN, [23, 31], "received"),
    ],
)
def test_default_layers(facts, layers, stat):
    needs = stage_of(facts).needs
    assert [n.layer for n in needs] == layers
    assert {n.stat for n in needs} == {stat}


def test_range_without_a_whole_image_layer_takes_the_last_one_before():
    assert [n.layer for n in stage_of(ModelFacts("q", 12, 11, False, (3, 7)), start_layer=9).needs] == [7]


def anyres(stage, scores):
    part, cell, role = anyres_index((2, 1), 4)
    scores = scores.masked_fill(role == Role.NEWLINE, torch.nan)
    stats = dict.fromkeys(stage.needs, scores)
    return tiled_view(torch.zeros(len(part), 1), stage.keep_count, stats, part, cell, role, [(4, 4)] * 3, {})


@pytest.mark.parametrize(("keep", "counts"), [(0.25, [4, 4, 4]), (8, [3, 3, 2])])
def test_tiles_are_ranked_each_for_itself(keep, counts):
    stage = stage_of(keep=keep)
    view = anyres(stage, torch.arange(56.0))
    kept = stage.select(view).keep
    assert torch.bincount(view.part[kept]).tolist() == counts
    assert bool((view.role[kept] == Role.PATCH).all())


def test_newlines_can_stay():
    stage = stage_of(keep=0.25, newlines="keep")
    view = anyres(stage, torch.arange(56.0))
    assert int((view.role[stage.select(view).keep] == Role.NEWLINE).sum()) == 8


@pytest.mark.parametrize("keep", [1.0, 99])
def test_keeping_all_patches_keeps_newlines_too(keep):
    stage = stage_of(keep=keep)
    assert stage.select(anyres(stage, torch.arange(56.0))).keep.tolist() == list(range(56))


def test_class_row_of_the_features_always_stays():
    stage = stage_of(keep=2)
    role = torch.tensor([int(Role.CLASS), 0, 0, 0, 0])
    stats = dict.fromkeys(stage.needs, torch.tensor([torch.nan, 0.1, 0.4, 0.2, 0.3]))
    part, cell = torch.zeros(5, dtype=torch.long), torch.arange(-1, 4)
    view = tiled_view(torch.zeros(5, 1), stage.keep_count, stats, part, cell, role, [(2, 2)], {})
    assert stage.select(view).keep.tolist() == [0, 2, 4]


def test_one_patch():
    assert select(torch.rand(4, 2, 1), small(4), keep=0.1).keep.tolist() == [0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_scores_are_refused(bad):
    rows = torch.rand(4, 2, 9)
    rows[2, 0, 3] = bad
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(rows, small(4), keep=3)


@pytest.mark.parametrize("start", [-1, 23])
def test_empty_ensemble_is_refused(start):
    with pytest.raises(ValueError, match="start_layer"):
        stage_of(CLIP, start_layer=start)


@pytest.mark.parametrize("keep", [0, -3, 1.5, float("nan")])
def test_impossible_keep_is_refused(keep):
    with pytest.raises(ValueError, match="keep"):
        make_method("vtc-cls", keep=keep)


def test_round_trip():
    method = make_method("vtc-cls", keep=64, start_layer=12, ensemble="max")
    settings = method.to_dict()
    assert make_method(settings.pop("method"), **settings) == method
