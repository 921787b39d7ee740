import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from vtc.core.layout import Role
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support.oracles import diversity as oracle
from support.oracles import modest
from support.oracles.views import anyres_index, plain_view, tiled_view


def stage_of(**options):
    (stage,) = make_method("divprune", **options).stages(ModelFacts())
    return stage


def features(seed, n, d=6):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def select(x, **options):
    stage = stage_of(**options)
    return stage.select(plain_view(x, stage.keep_count))


def test_example_by_hand():
    # row 2 is the farthest from its nearest neighbour, row 0 is then the least like it
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.3]])
    assert select(x, keep=2).keep.tolist() == [0, 2]


@modest
@given(st.integers(0, 999), st.integers(3, 40), st.floats(0.05, 0.95), st.sampled_from(["raw", "centered"]))
def test_matches_the_brute_force(seed, n, keep, geometry):
    x = features(seed, n)
    count = max(1, round(n * keep))
    reference = oracle.unit(x.numpy(), geometry == "centered")
    order, gap = oracle.greedy(reference, count, oracle.isolated(reference), "k_center")
    assume(gap > 1e-4)
    kept = select(x, keep=keep, geometry=geometry).keep
    assert kept.tolist() == (sorted(order) if count < n else list(range(n)))


@modest
@given(st.integers(0, 999), st.integers(4, 40))
def test_common_component_matters_only_without_centring(seed, n):
    x = features(seed, n).double()
    shifted = x + 50 * features(seed + 1, 1).double()
    assert torch.equal(
        select(x, keep=0.4, geometry="centered").keep, select(shifted, keep=0.4, geometry="centered").keep
    )


def test_no_needs_and_no_tower():
    assert stage_of().needs == ()


def test_newlines_are_no_candidates():
    stage = stage_of(keep=0.4)
    part, cell, role = anyres_index((2, 2), 3)
    x = features(0, len(part))
    x[role == Role.NEWLINE] = 100.0
    view = tiled_view(x, stage.keep_count, {}, part, cell, role, [(3, 3)] * 5, {})
    kept = stage.select(view).keep
    assert len(kept) == 18 and bool((role[kept] == Role.PATCH).all())


def test_all_equal_features_and_one_token():
    assert len(select(torch.ones(12, 4), keep=3).keep) == 3
    assert len(select(torch.ones(12, 4), keep=3, geometry="centered").keep) == 3
    assert select(features(0, 1), keep=0.098).keep.tolist() == [0]


def test_scope_of_a_row_is_passed_on():
    assert stage_of(scope="row").scope == "row"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_features_are_refused(bad):
    x = features(0, 9)
    x[0, 0] = bad
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(x, keep=2)


@pytest.mark.parametrize("options", [{"keep": 0}, {"keep": 1.5}, {"geometry": "cosine"}, {"scope": "frame"}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_method("divprune", **options)


def test_round_trip():
    method = make_method("divprune", keep=0.098, geometry="centered", scope="row")
    settings = method.to_dict()
    assert make_method(settings.pop("method"), **settings) == method
