import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.layout import Role
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support.oracles import modest
from support.oracles import visionzip as oracle
from support.oracles.views import anyres_index, plain_view, tiled_view

CLIP = ModelFacts("llava", 24, 22, True, tuple(range(24)), 32)
QWEN = ModelFacts("qwen2_5_vl", 32, 31, False, (7, 15, 23, 31), 28, True)


def stage_of(facts=CLIP, **options):
    (stage,) = make_method("visionzip", **options).stages(facts)
    return stage


def sample(seed, n, d=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.rand(n, generator=generator)


def select(x, scores, **options):
    stage = stage_of(**options)
    return stage.select(plain_view(x, stage.keep_count, dict.fromkeys(stage.needs, scores)))


def test_example_by_hand():
    # dominant: 0 and 3; rest 1, 2, 4, 5; targets 1 and 4; 2 is nearer to 4, 5 nearer to 1
    x = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 2.0], [7.0, 7.0], [0.0, 4.0], [3.0, 1.0]])
    found = select(x, torch.tensor([0.9, 0.1, 0.2, 0.8, 0.3, 0.4]), keep=4, contextual=0.5)
    assert found.keep.tolist() == [0, 1, 3, 4]
    assert found.values.tolist() == [[9, 9], [2, 0.5], [7, 7], [0, 3]]
    assert found.groups.tolist() == [0, 1, 3, 2, 3, 1]
    assert found.weights.tolist() == [1, 0.5, 0.5, 1, 0.5, 0.5]


@pytest.mark.parametrize(("keep", "dominant"), [(64, 54), (128, 108), (192, 162)])
def test_headline_settings(keep, dominant):
    x, scores = sample(0, 576)
    found = select(x, scores, keep=keep)
    best = set(scores.topk(dominant).indices.tolist())
    rows = found.keep.tolist()
    assert len(rows) == keep and best <= set(rows)
    unchanged = {i for i, v in zip(rows, found.values, strict=True) if torch.equal(v, x[i])}
    assert best <= unchanged


@modest
@given(st.integers(0, 999), st.integers(2, 61), st.floats(0.02, 0.98), st.floats(0, 0.9))
def test_matches_the_brute_force(seed, n, keep, share):
    x, scores = sample(seed, n)
    found = select(x, scores, keep=keep, contextual=share)
    count = max(1, round(n * keep))
    merged = 0 if count >= n else round(count * share)
    kept, rows = oracle.zipped(x, scores, count - merged, merged)
    assert found.keep.tolist() == kept and len(kept) == count
    if count < n:
        torch.testing.assert_close(found.values.double(), torch.from_numpy(rows), atol=1e-5, rtol=1e-5)


@modest
@given(st.integers(0, 999), st.integers(2, 50))
def test_groups_are_proper_means(seed, n):
    x, scores = sample(seed, n)
    found = select(torch.ones_like(x), scores, keep=0.4, contextual=0.3)
    if found.values is not None:
        torch.testing.assert_close(found.values, torch.ones_like(found.values))
        assert bool((found.groups[found.keep] == torch.arange(len(found.keep))).all())


def test_without_contextual_tokens_it_is_a_ranking():
    x, scores = sample(3, 30)
    found = select(x, scores, keep=6, contextual=0.0)
    assert set(found.keep.tolist()) == set(scores.topk(6).indices.tolist())
    assert torch.equal(found.values, x[found.keep])


def test_tiles_share_the_budget_and_newlines_go():
    stage = stage_of(keep=0.5, newlines="drop")
    part, cell, role = anyres_index((1, 2), 4)
    x, scores = sample(1, len(part))
    scores[role == Role.NEWLINE] = torch.nan
    stats = dict.fromkeys(stage.needs, scores)
    view = tiled_view(x, stage.keep_count, stats, part, cell, role, [(4, 4)] * 3, {})
    found = stage.select(view)
    assert torch.bincount(part[found.keep]).tolist() == [8, 8, 8]
    assert bool((role[found.keep] == Role.PATCH).all())
    (stage,) = make_method("visionzip", keep=0.5, newlines="keep").stages(CLIP)
    kept = stage.select(view)
    assert int((role[kept.keep] == Role.NEWLINE).sum()) == 4
    assert torch.equal(kept.values[role[kept.keep] == Role.NEWLINE], x[role == Role.NEWLINE])
    assert bool((part[kept.groups.argsort()] >= 0).all())


def test_tokens_never_merge_across_frames():
    stage = stage_of(keep=0.2, contextual=0.4)
    x, scores = sample(2, 60)
    stats = dict.fromkeys(stage.needs, scores)
    view = plain_view(x, stage.keep_count, stats, (3, 4, 5), modality="video")
    found = stage.select(view)
    merged = found.groups >= 0
    assert torch.equal(view.part[found.keep][found.groups[merged]], view.part[merged])


@pytest.mark.parametrize("keep", [1.0, 99])
def test_keeping_everything_is_a_no_op(keep):
    x, scores = sample(0, 20)
    found = select(x, scores, keep=keep)
    assert found.values is None and found.keep.tolist() == list(range(20))


def test_one_token_image_and_equal_features():
    assert select(*sample(0, 1), keep=0.1).keep.tolist() == [0]
    found = select(torch.ones(9, 3), torch.ones(9), keep=4, contextual=0.5)
    assert found.keep.tolist() == [0, 1, 2, 5]


def test_layer_and_statistic():
    assert [(n.layer, n.stat) for n in stage_of().needs] == [(22, "class_row")]
    assert [(n.layer, n.stat) for n in stage_of(QWEN).needs] == [(31, "received")]


def test_model_without_tower_is_refused():
    with pytest.raises(ValueError, match="divprune"):
        stage_of(ModelFacts("text"))


def test_model_with_windows_only_is_refused():
    with pytest.raises(ValueError, match="whole image"):
        stage_of(ModelFacts("windowed", 12, 11, False, (), 12))


def test_half_precision_does_not_overflow():
    x, scores = torch.full((40, 4), 60000.0).half(), torch.rand(40)
    values = select(x, scores, keep=4, contextual=0.5).values
    assert values.dtype == torch.float16 and bool((values == 60000).all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_features_and_scores_are_refused(bad):
    x, scores = sample(0, 12)
    broken = x.clone()
    broken[2, 1] = bad
    with pytest.raises(ValueError, match="features"):
        select(broken, scores, keep=6)
    scores[4] = bad
    with pytest.raises(ValueError, match="scores"):
        select(x, scores, keep=6)


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": 1.5}, {"contextual": 1.0}, {"contextual": float("nan")}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_method("visionzip", **options)


def test_contextual_must_be_a_number():
    with pytest.raises(TypeError, match="contextual"):
        make_method("visionzip", contextual="10")


def test_round_trip():
    method = make_method("visionzip", keep=64, contextual=0.25, newlines="keep")
    settings = method.to_dict()
    assert make_method(settings.pop("method"), **settings) == method
