"""CDPruner and Cen-Prune: worked examples, float64 oracles, invariances, edges; and the question in the engine."""

from __future__ import annotations

import pytest
import torch

import vtc
from vtc.core.centering import distinctiveness, soft_weight, working_rows
from vtc.core.diversity import greedy_spread, most_isolated, unit_rows
from vtc.core.dpp import greedy_map
from vtc.core.layout import Role
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support import tiny, tiny_families
from support.oracles.views import plain_view

FACTS = ModelFacts(family="llava", vision_layers=24, feature_layer=22)
SHARE = torch.tensor([[1, 0.8, 0.1, 0], [0.8, 1, 0.2, 0], [0.1, 0.2, 1, 0.5], [0, 0, 0.5, 1]], dtype=torch.float64)
ROWS = torch.tensor([(2, 0.2), (2, 0.4), (1.8, 1), (0.6, 1.5), (2.2, 0.1)], dtype=torch.float64)


def features(seed, n, d=16):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def select(name, x, keep, text=None, **options):
    (stage,) = make_method(name, keep=keep, **options).stages(FACTS)
    view = plain_view(x, stage.keep_count)
    view.text = text
    return stage.select(view)


def by_determinants(kernel, k):
    """Greedy MAP by determinants of submatrices: the definition."""
    picks = []
    for _ in range(k):
        rest = [i for i in range(len(kernel)) if i not in picks]
        dets = [torch.linalg.det(kernel[[*picks, i]][:, [*picks, i]]).item() for i in rest]
        picks.append(rest[dets.index(max(dets))])
    return picks


@pytest.mark.parametrize("seed", range(4))
def test_greedy_map_is_the_one_by_determinants(seed):
    x, r = unit_rows(features(seed, 12)), torch.rand(12, generator=torch.Generator().manual_seed(seed)).double()
    kernel = r[:, None] * (x @ x.T) * r[None]
    found = greedy_map(x, r, 6)
    assert found.order.tolist() == by_determinants(kernel, 6) and found.rank == 6
    sub = kernel[found.order][:, found.order]
    assert found.gains.prod().item() == pytest.approx(torch.linalg.det(sub).item(), rel=1e-9)
    assert bool((found.gains.diff() <= 1e-12).all())
    assert greedy_map(x, r, 3).order.tolist() == found.order[:3].tolist()


def test_the_worked_example_of_the_determinantal_process():
    rows = torch.linalg.cholesky(SHARE)
    found = greedy_map(rows, torch.tensor([1, 0.9, 0.8, 0.5], dtype=torch.float64), 3)
    assert found.order.tolist() == [0, 2, 1]
    assert found.gains.tolist() == pytest.approx([1, 0.6336, 0.2798], abs=1e-4)


def test_behind_the_rank_the_most_relevant_fill_up():
    x = unit_rows(torch.eye(3, dtype=torch.float64)[[0, 0, 1, 1, 2, 2]])
    r = torch.tensor([0.9, 0.8, 0.7, 0.95, 0.5, 0.2], dtype=torch.float64)
    found = greedy_map(x, r, 5)
    assert found.order.tolist() == [3, 0, 4, 1, 2] and found.rank == 3
    assert found.gains[3:].tolist() == [0, 0]
    assert greedy_map(x, torch.ones(6).double(), 6).order.unique().tolist() == list(range(6))


def test_the_worked_example_of_cen_prune():
    g = distinctiveness(ROWS)
    assert g.tolist() == pytest.approx([-0.8435, -0.8706, -0.8854, -0.5492, -0.8239], abs=1e-4)
    weight = soft_weight(g, "minmax")
    assert weight.tolist() == pytest.approx([0.125, 0.044, 0, 1, 0.183], abs=1e-3)
    given = {"standardize": "off", "normalize": "minmax"}
    assert select("divprune", ROWS, 3, geometry="cen", **given).keep.tolist() == [2, 3, 4]
    assert select("divprune", ROWS, 3, geometry="centered", **given).keep.tolist() == [0, 2, 3]
    assert greedy_map(unit_rows(ROWS, centered=True), weight, 2).order.tolist() == [3, 0]


@pytest.mark.parametrize("seed", range(3))
def test_distinctiveness_is_the_pairwise_mean(seed):
    x = features(seed, 20)
    x[3] = 0
    unit = unit_rows(x)
    pairs = (unit @ unit.T).fill_diagonal_(0)
    assert torch.allclose(distinctiveness(x), -pairs.sum(1) / 19, atol=1e-12)


def test_a_weight_of_one_is_the_centred_geometry_and_picked_rows_stay_picked():
    unit = unit_rows(features(1, 30), centered=True)
    first = most_isolated(unit)
    plain = greedy_spread(unit, 30, first, "k_center")
    same = greedy_spread(unit, 30, first, "k_center", torch.ones(30))
    assert same.order.tolist() == plain.order.tolist()
    assert torch.allclose(same.values, plain.values)
    zero = greedy_spread(unit, 30, 4, "k_center", torch.zeros(30))
    assert zero.order.tolist() == [4, *(i for i in range(30) if i != 4)]
    with pytest.raises(ValueError, match="k_center"):
        greedy_spread(unit, 3, 0, "max_sum", torch.ones(30))


def test_channels_are_divided_where_one_dominates():
    x = features(2, 60, 64)
    assert working_rows(x)[1] is False and working_rows(x, "on")[1] is True
    loud = x.clone()
    loud[:, 5] *= 50
    rows, divided = working_rows(loud)
    assert divided and rows.std(0, correction=0).allclose(torch.ones(64).double(), atol=1e-5)
    loud[:, 7] = 3.0
    assert working_rows(loud)[0][:, 7].abs().max() == 0


@pytest.mark.parametrize("name", ["divprune", "cdpruner"])
@pytest.mark.parametrize("geometry", ["raw", "centered", "cen"])
def test_edges(name, geometry):
    assert select(name, features(0, 9), 9, geometry=geometry).keep.tolist() == list(range(9))
    assert len(select(name, features(0, 9), 1, geometry=geometry).keep) == 1
    assert select(name, features(0, 1), 1, geometry=geometry).keep.tolist() == [0]
    assert len(select(name, torch.ones(9, 4), 4, geometry=geometry).keep) == 4
    assert len(select(name, torch.zeros(9, 4), 4, geometry=geometry).keep) == 4
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(name, torch.full((9, 4), torch.nan), 4, geometry=geometry)


def test_relevance_has_the_published_sign_and_may_be_left_out():
    x, text = features(3, 24), features(4, 5)
    cosines = (unit_rows(x) @ unit_rows(text).T).mean(1)
    expected = (cosines.max() - cosines) / (cosines.max() - cosines.min() + 1e-6)
    (stage,) = make_method("cdpruner", keep=6).stages(FACTS)
    view = plain_view(x, stage.keep_count)
    view.text = text
    rated = make_method("cdpruner", keep=6).rate(view)
    assert torch.allclose(rated, expected.to(rated), atol=1e-6)
    plain = select("cdpruner", x, 6, relevance="none").keep.tolist()
    assert plain == sorted(by_determinants(unit_rows(x) @ unit_rows(x).T, 6))
    assert select("cdpruner", x, 6, text, theta=0.0).keep.tolist() == plain
    assert select("cdpruner", x, 6, text[:0]).keep.tolist() == plain
    strong = make_method("cdpruner", theta=0.5).rate(view)
    assert torch.allclose(strong, (rated * 0.5).exp(), atol=1e-6)
    with pytest.raises(ValueError, match="theta"):
        make_method("cdpruner", theta=1.5)


@pytest.mark.parametrize("name", ["divprune", "cdpruner"])
def test_crops_have_their_shares_and_newlines_none(name):
    x = features(5, 24)
    (stage,) = make_method(name, keep=8, joint=False).stages(FACTS)
    view = plain_view(x, stage.keep_count)
    view.part = torch.arange(24) // 8
    view.role = view.role.clone()
    view.role[7] = int(Role.NEWLINE)
    kept = stage.select(view).keep
    assert torch.bincount(kept // 8, minlength=3).tolist() == [3, 3, 2] and 7 not in kept.tolist()


@pytest.mark.parametrize("family", ["llava-clip", "qwen2_5_vl", "llava_onevision"])
def test_the_question_is_what_stands_behind_the_last_image(family):
    """Its embeddings alone: no text before an image, no padding, no completion, whatever the batch."""
    case = tiny_families.ALL[family]
    model, inputs = case.build(), tiny.batch(case)
    seen = []
    method = make_method("cdpruner", keep=0.5)
    rate = method.rate
    method.rate = lambda view: seen.append((view.row, view.text)) or rate(view)
    with vtc.patched(model, method) as handle, torch.no_grad():
        model(**inputs)
        record = handle.last
    table = model.get_input_embeddings()
    visual = {
        i for i in (getattr(model.config, n, None) for n in ("image_token_id", "video_token_id")) if i is not None
    }
    assert {row for row, _ in seen} == {image.row for image in record.images}
    for row, text in seen:
        ids = inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist()
        last = max(i for i, token in enumerate(ids) if token in visual)
        assert torch.equal(text, table(torch.tensor(ids[last + 1 :])))
