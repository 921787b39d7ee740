import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.layout import Role
from vtc.core.stage import ModelFacts, View
from vtc.methods import make_method

from support.oracles import modest
from support.oracles.views import anyres_index, plain_view, tiled_view

CLIP = ModelFacts("llava", 24, 22, True, tuple(range(24)), 32)
SIGLIP = ModelFacts("llava_onevision", 26, 25, False, tuple(range(26)), 28)


def stage_of(facts=SIGLIP, **options):
    (stage,) = make_method("todre", stage2="off", **options).stages(facts)
    return stage


def features(seed, n, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def select(x, facts=SIGLIP, attention=None, **options):
    stage = stage_of(facts, **options)
    return stage.select(plain_view(x, stage.keep_count, {need: attention for need in stage.needs}))


@pytest.mark.parametrize(("objective", "kept"), [("max_sum", [0, 2, 3]), ("k_center", [0, 1, 2])])
def test_worked_example(objective, kept):
    x = torch.tensor([[1.0, 0.0], [0.8, 0.6], [-0.6, 0.8], [-0.6, 0.8]])
    attention = torch.tensor([0.4, 0.3, 0.2, 0.1])
    assert select(x, CLIP, attention, keep=3, objective=objective).keep.tolist() == kept


@modest
@given(
    st.integers(0, 99),
    st.integers(1, 70),
    st.one_of(st.integers(1, 90), st.floats(0.01, 1.0)),
    st.sampled_from(["max_sum", "k_center"]),
    st.sampled_from(["farthest", "center", "random"]),
)
def test_kept_are_sorted_distinct_and_as_many_as_announced(seed, n, keep, objective, pivot):
    stage = stage_of(keep=keep, objective=objective, pivot=pivot, seed=seed)
    kept = stage.select(plain_view(features(seed, n), stage.keep_count)).keep
    assert len(kept) == stage.keep_count(n)
    assert bool((kept.diff() > 0).all()) and 0 <= int(kept[0]) and int(kept[-1]) < n


@modest
@given(st.integers(0, 99), st.integers(8, 60))
def test_scaling_rows_changes_nothing(seed, n):
    x = features(seed, n).double()
    scale = 0.1 + features(seed + 1, n, 1).abs()
    assert torch.equal(select(x, keep=0.3).keep, select(x * scale, keep=0.3).keep)


def test_one_token_is_the_pivot():
    attention = features(0, 30, 1)[:, 0]
    assert select(features(1, 30), CLIP, attention, keep=1).keep.tolist() == [int(attention.argmax())]


@pytest.mark.parametrize(("pivot", "row"), [("farthest", 3), ("center", 0)])
def test_pivots_without_attention(pivot, row):
    x = torch.tensor([[1.0, 0.1], [1.0, 0.0], [1.0, -0.3], [-0.2, 1.0]])
    assert select(x, keep=1, pivot=pivot).keep.tolist() == [row]


def test_random_pivot_follows_its_seed_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    kept = [select(features(0, 200), keep=1, pivot="random", seed=s).keep.tolist() for s in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_auto_pivot_reads_attention_only_where_there_is_a_class_token():
    assert stage_of(SIGLIP).needs == ()
    (need,) = stage_of(CLIP).needs
    assert (need.layer, need.stat) == (23, "class_row")
    assert stage_of(CLIP, cls_layer=-2).needs[0].layer == 22


def anyres(stage, x, attention, **index):
    part, cell, role = anyres_index((2, 1), 3, **index)
    return tiled_view(x, stage.keep_count, {n: attention for n in stage.needs}, part, cell, role, [(3, 3)] * 3, {})


def test_tiled_image_takes_its_pivot_from_the_thumbnail_and_drops_newlines():
    stage = stage_of(CLIP, keep=0.5)
    x, attention = features(0, 33), torch.rand(33, generator=torch.Generator().manual_seed(1))
    attention[20] = 9.0
    view = anyres(stage, x, attention)
    attention[view.role == Role.NEWLINE] = torch.nan
    kept = stage.select(view).keep
    assert len(kept) == round(27 * 0.5)
    assert bool((view.role[kept] == Role.PATCH).all())
    stage = stage_of(CLIP, keep=1)
    assert stage.select(anyres(stage, x, attention)).keep.tolist() == [int(attention[:9].argmax())]


def test_newlines_can_stay_on_top_of_the_budget():
    stage = stage_of(SIGLIP, keep=4, newlines="keep")
    view = anyres(stage, features(0, 33), None)
    kept = stage.select(view).keep
    assert int((view.role[kept] == Role.NEWLINE).sum()) == 6 and len(kept) == 10


def test_keeping_all_patches_keeps_everything():
    stage = stage_of(SIGLIP, keep=1.0)
    assert stage.select(anyres(stage, features(0, 33), None)).keep.tolist() == list(range(33))


def two_images(stage, first, second):
    views = [plain_view(x, stage.keep_count) for x in (first, second)]
    joined = {name: torch.cat([getattr(v, name) for v in views]) for name in ("features", "part", "cell", "role")}
    unit = torch.tensor([0] * len(first) + [1] * len(second))
    return View(unit=unit, units=[v.units[0] for v in views], keep_count=stage.keep_count, **joined)


def test_row_scope_adds_up_the_budgets_of_the_images():
    stage = stage_of(keep=5, scope="row")
    assert stage.scope == "row"
    kept = stage.select(two_images(stage, features(0, 20), features(1, 30))).keep
    assert len(kept) == 10 and bool((kept < 20).any()) and bool((kept >= 20).any())


def test_joint_selection_avoids_what_the_other_image_shows():
    stage = stage_of(keep=4, scope="row", objective="k_center", pivot="center")
    x = features(2, 8)
    kept = stage.select(two_images(stage, x, x)).keep
    assert sorted((kept % 8).tolist()) == list(range(8))


@pytest.mark.parametrize("keep", [0, -3, 1.5, float("nan"), 0.0])
def test_impossible_keep_is_refused(keep):
    with pytest.raises(ValueError, match="keep"):
        make_method("todre", keep=keep)


@pytest.mark.parametrize(
    "options", [{"objective": "max_min"}, {"pivot": "mean"}, {"scope": "batch"}, {"newlines": "some"}]
)
def test_unknown_choices_are_refused(options):
    with pytest.raises(ValueError, match="choose one of"):
        make_method("todre", **options)


def test_class_pivot_needs_a_class_token():
    with pytest.raises(ValueError, match="pivot='farthest'"):
        stage_of(SIGLIP, pivot="cls")


def test_missing_layer_is_refused():
    with pytest.raises(ValueError, match="24 layers"):
        stage_of(CLIP, cls_layer=24)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_features_are_refused(bad):
    x = features(0, 9)
    x[3, 2] = bad
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(x, keep=2)


def test_bad_attention_is_refused():
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(features(0, 5), CLIP, torch.full((5,), torch.nan), keep=2)


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_images(n):
    assert select(features(0, n), keep=0.1).keep.shape == (1,)
    assert select(features(0, n), keep=99).keep.tolist() == list(range(n))


def test_half_precision_keeps_what_full_precision_keeps():
    x = (features(0, 50) * 8).half()
    assert torch.equal(select(x, keep=0.2).keep, select(x.float(), keep=0.2).keep)


def test_round_trip():
    method = make_method("todre", keep=7, objective="k_center", pivot="random", seed=3, scope="row")
    settings = method.to_dict()
    assert make_method(settings.pop("method"), **settings) == method


def test_scores_rank_picks_above_the_rest():
    found = select(features(0, 40), keep=10)
    rest = torch.ones(40, dtype=torch.bool)
    rest[found.keep] = False
    assert float(found.scores[found.keep].min()) > float(found.scores[rest].max())


def relevance(values, **options):
    method = make_method("todre", **options)
    stage = method.stages(CLIP)[-1]
    view = plain_view(torch.zeros(9, 4), stage.keep_count, {stage.needs[0]: torch.tensor(values)})
    view.total = 20
    return len(stage.select(view).keep)


def test_visual_tokens_go_only_when_both_ratios_are_small():
    assert relevance([0.0999, 0.0]) == 0
    assert relevance([0.1, 0.0]) == 9
    assert relevance([0.01, 0.2]) == 9
    assert relevance([0.01, 0.2], tau=0.3) == 0
    assert relevance([torch.nan, 0.0]) == 9


def test_second_stage_is_off_where_nothing_is_to_be_dropped():
    assert relevance([0.0, 0.0], keep=1.0) == 9
    assert relevance([0.0, 0.0], keep=1.0, stage2="on") == 0
    assert len(make_method("todre", stage2="off").stages(CLIP)) == 1
    hybrid = ModelFacts("hybrid", 24, 22, True, tuple(range(24)), 32, linear_layers=(30,))
    assert len(make_method("todre").stages(hybrid)) == 1


@pytest.mark.parametrize(("layers", "index"), [(32, 28), (40, 35), (28, 24), (4, 3)])
def test_layer_of_the_second_stage(layers, index):
    facts = ModelFacts("llava", 24, 22, True, tuple(range(24)), layers)
    stage = make_method("todre").stages(facts)[-1]
    assert stage.at.layer == index and stage.needs[0].layer == index - 1
