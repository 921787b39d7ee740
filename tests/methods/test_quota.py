"""QuoTA as pure tensor code: shares, grids, operators, and what the method does with a video."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtc.core.frame_scores import FrameScorer
from vtc.core.stage import FrameGrids
from vtc.methods import make_method
from vtc.methods.quota.resample import cells, resize, shrink, slots, token_grid
from vtc.methods.quota.shares import assign, cap_as_published, fill, frame_weights

from support.oracles.views import anyres_index, plain_view, tiled_view

scores_of = st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=24).map(lambda s: torch.tensor(s).double())
quick = settings(max_examples=40, deadline=None)


def film(frames=4, grid=(4, 6), dim=5, seed=0, keep=0.5, **options):
    """View of a video with noise for features, and the method for it."""
    features = torch.randn(frames * grid[0] * grid[1], dim, generator=torch.Generator().manual_seed(seed))
    method = make_method("quota", keep=keep, **options)
    return plain_view(features, method.keep_count, grid=(frames, *grid), modality="video"), method


def per_frame(view, keep):
    return torch.bincount(view.part[keep], minlength=len(view.units[0].part_grids)).tolist()


def test_example_of_the_specification():
    sizes = torch.full((4,), 100)
    counts = assign(torch.tensor([0.9, 0.1, 0.05, 0.3]), sizes, 75, "none", sizes)
    assert counts == [66, 0, 0, 7]
    assert [token_grid(c, 10, 10) for c in counts] == [(8, 8), (0, 0), (0, 0), (3, 2)]
    chart = torch.arange(9.0).view(1, 3, 3, 1)
    assert resize(chart, (2, 2), "bilinear").flatten().tolist() == [1, 2.5, 5.5, 7]
    assert resize(chart, (2, 2), "average").flatten().tolist() == [2, 3, 5, 6]


def test_published_cap_loses_budget_and_filling_does_not():
    weights, most = torch.tensor([0.5, 0.3, 0.1, 0.1]).double(), torch.full((4,), 0.4).double()
    torch.testing.assert_close(cap_as_published(weights, most).sum(), torch.tensor(43 / 45).double())
    tokens = fill(weights, 1000, torch.zeros(4), 1000 * most)
    torch.testing.assert_close(tokens, torch.tensor([400.0, 360.0, 120.0, 120.0]).double())
    tokens = fill(weights, 1000, torch.full((4,), 150.0), 1000 * most)
    torch.testing.assert_close(tokens, torch.tensor([400.0, 300.0, 150.0, 150.0]).double())
    assert fill(torch.tensor([1.0, 0.0]).double(), 50, torch.zeros(2), torch.full((2,), 20.0)).tolist() == [20, 0]


@quick
@given(scores_of, st.integers(1, 4000), st.integers(1, 27))
def test_shares_stay_in_the_budget_and_follow_the_scores(scores, budget, side):
    sizes = torch.full((len(scores),), side * side)
    for cap in ("none", "official", "fill"):
        counts = assign(scores, sizes, budget, cap, sizes)
        assert 1 <= sum(counts) <= budget
        assert cap == "none" or max(counts) <= side * side
        if cap != "official":
            order, weights = scores.argsort().tolist(), frame_weights(scores)
            pairs = zip(order, order[1:], strict=False)
            assert all(counts[a] <= counts[b] for a, b in pairs if weights[a] < weights[b])
        for c in counts:
            h, w = token_grid(c, side, side, cap=cap != "none")
            assert 0 <= c - h * w <= math.isqrt(c) and w <= h <= w + 1
    if float(scores.max()) > 0 and budget <= int(sizes.sum()):
        tokens = fill(frame_weights(scores), budget, sizes * 0, sizes)
        full = int(sizes[frame_weights(scores) > 0].sum())
        assert float(tokens.sum()) == pytest.approx(min(budget, full))


@quick
@given(scores_of, st.floats(1e-3, 1e3), st.randoms())
def test_scale_and_order_do_not_matter(scores, factor, random):
    sizes = torch.full((len(scores),), 196)
    counts = torch.tensor(assign(scores, sizes, 12544, "none", sizes))
    scaled = torch.tensor(assign(scores * factor, sizes, 12544, "none", sizes))
    assert (counts - scaled).abs().max() <= 1  # an exact border may fall to either side
    order = list(range(len(scores)))
    random.shuffle(order)
    shuffled = torch.tensor(assign(scores[order], sizes, 12544, "none", sizes))
    assert (counts[order] - shuffled).abs().max() <= 1


@pytest.mark.parametrize("scores", [[0.0] * 7, [1e-200] * 7, [1e200] * 7, [3.0] * 7])
def test_equal_scores_share_equally(scores):
    sizes = torch.full((7,), 196)
    assert assign(torch.tensor(scores, dtype=torch.float64), sizes, 7 * 196, "none", sizes) == [196] * 7


def test_float_noise_costs_no_token():
    for frames in range(1, 200):
        sizes = torch.full((frames,), 196)
        assert assign(torch.full((frames,), 0.3).double(), sizes, 196 * frames, "none", sizes) == [196] * frames


def test_frames_of_different_sizes_keep_equal_shares_at_equal_scores():
    sizes = torch.tensor([6, 24, 60])
    assert assign(torch.ones(3), sizes, 45, "fill", sizes) == [3, 12, 30]


@quick
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_grids_of_any_shape(height, width, data):
    count = data.draw(st.integers(1, height * width))
    h, w = token_grid(count, height, width)
    assert 1 <= h <= height and 1 <= w <= width and h * w <= count
    place = slots((height, width), (h, w))
    assert len(place) == h * w and bool((place.diff() > 0).all()) and int(place.max()) < height * width
    cover = cells((height, width), (h, w))
    assert cover[place].tolist() == list(range(h * w)) and int(cover.max()) == h * w - 1
    if count == height * width:
        assert place.tolist() == list(range(count))


@pytest.mark.parametrize("operator", ["bilinear", "average"])
def test_constant_maps_stay_constant(operator):
    chart = torch.full((1, 27, 27, 2), 0.75)
    for size in ((14, 14), (5, 4), (1, 1), (27, 27)):
        torch.testing.assert_close(resize(chart, size, operator), torch.full((1, size[0] * size[1], 2), 0.75))


def test_half_size_is_the_mean_of_blocks():
    chart = torch.randn(2, 12, 12, 3, generator=torch.Generator().manual_seed(0))
    blocks = chart.view(2, 6, 2, 6, 2, 3).mean((2, 4)).view(2, 36, 3)
    torch.testing.assert_close(resize(chart, (6, 6), "average"), blocks)
    torch.testing.assert_close(resize(chart, (6, 6), "bilinear"), blocks)


@pytest.mark.parametrize("operator", ["bilinear", "average", "pick", "merge", "separable"])
def test_every_operator_in_the_method(operator):
    view, method = film(frame_scores=[0.9, 0.0, 0.3, 0.5], operator=operator)
    found = method.select(view)
    counts = per_frame(view, found.keep)
    assert counts[0] == 24 and counts[1] == 0 and 0 < counts[2] < counts[3] and sum(counts) <= 48
    assert torch.equal(found.values[:24], view.features[:24])  # a full frame stays what it is
    assert found.groups[24:48].tolist() == [-1] * 24 and found.groups[:24].tolist() == list(range(24))
    assert set(found.groups[48:].tolist()) <= set(range(24, len(found.keep)))
    torch.testing.assert_close(found.remap(view.features), found.values)
    third = view.features[48:72].view(1, 4, 6, 5)
    rows = (
        resize(third, token_grid(assigned(method, view)[2], 4, 6), operator)
        if operator in ("bilinear", "average", "separable")
        else shrink(third.flatten(1, 2), counts[2], operator)
    )
    torch.testing.assert_close(found.values[24 : 24 + counts[2]], rows[0])


def assigned(method, view):
    sizes = torch.full((4,), 24)
    return assign(torch.tensor(method.frame_scores), sizes, method.keep_count(96), "fill", sizes)


def test_similarity_of_the_features_decides_for_all_rows():
    view, method = film(frame_scores="uniform", operator="merge")
    found = method.select(view)
    assert not torch.allclose(found.remap(view.features.flip(1)), found.values)
    torch.testing.assert_close(found.remap(view.features.flip(1)), found.values.flip(1))


@pytest.mark.parametrize("keep", [0.5, 30, 1, 96, 0.01])
def test_the_budget_holds(keep):
    for scores in ("uniform", [0, 0, 1, 0], [0.9, 0.2, 0.4, 0.3]):
        view, method = film(frame_scores=scores, keep=keep)
        assert 1 <= len(method.select(view).keep) <= method.keep_count(96)


def test_one_hot_scores_fill_one_frame():
    view, method = film(frame_scores=[0, 0, 1, 0])
    assert per_frame(view, method.select(view).keep) == [0, 0, 24, 0]


@pytest.mark.parametrize(
    ("apart", "least", "expected"), [(False, None, 0), (True, None, 1), (True, 0, 0), (True, 3, 3)]
)
def test_frames_between_words_keep_a_token(apart, least, expected):
    view, method = film(frame_scores=[0, 0, 1, 0], min_tokens=least)
    view.apart = apart
    counts = per_frame(view, method.select(view).keep)
    assert counts == [expected, expected, 24, expected] if expected != 3 else [2, 2, 24, 2]


def test_a_budget_below_one_token_per_frame_goes_to_the_best():
    view, method = film(frame_scores=[0.1, 0.3, 0.3, 0.2], keep=2)
    view.apart = True
    assert per_frame(view, method.select(view).keep) == [0, 1, 1, 0]
    view, method = film(frame_scores="uniform", keep=2, min_tokens=1)
    with pytest.raises(ValueError, match="min_tokens=1 for 4 frames is more than the budget of 2"):
        method.select(view)


def unpooled(view, side, seed=1):
    frames = len(view.units[0].part_grids)
    rows = torch.randn(frames, side * side, view.features.shape[1], generator=torch.Generator().manual_seed(seed))
    return FrameGrids(rows, (side, side), "bilinear", torch.nn.Identity())


def test_up_sampled_frames_use_the_slots_of_others():
    view, method = film(grid=(3, 3), keep=0.5, frame_scores=[0.0, 0.4, 0.9, 0.0])
    view.unpooled = unpooled(view, 6)
    found = method.select(view)
    # 18 tokens: 0.16 / 0.97 and 0.81 / 0.97 of them
    assert found.keep.tolist() == list(range(2 + 12))
    chart = view.unpooled.rows.view(4, 6, 6, 5)
    torch.testing.assert_close(found.values[:2], resize(chart[1:2], (2, 1), "bilinear")[0])
    torch.testing.assert_close(found.values[2:], resize(chart[2:3], (4, 3), "bilinear")[0])
    assert set(found.groups[:9].tolist()) == {-1} and set(found.groups[18:27].tolist()) <= set(range(2, 14))


@pytest.mark.parametrize(
    ("cap", "size", "total"), [("fill", (6, 6), 45), ("official", (6, 6), 36), ("auto", (7, 6), 42)]
)
def test_caps_of_unpooled_frames(cap, size, total):
    view, method = film(frames=10, grid=(3, 3), keep=0.5, frame_scores=[3.0] + [0.2] * 9, cap=cap)
    view.unpooled = unpooled(view, 6)
    found = method.select(view)
    # 45 tokens; the first frame's share is 9 / 9.36 of them, its grid has 36
    chart = view.unpooled.rows[:1].view(1, 6, 6, 5)
    torch.testing.assert_close(found.values[: size[0] * size[1]], resize(chart, size, "bilinear")[0])
    assert len(found.keep) == total


def test_frames_that_cannot_be_up_sampled_say_so():
    view, method = film(cap="none", frame_scores="uniform")
    with pytest.raises(ValueError, match="cap='none'.*LLaVA-OneVision"):
        method.select(view)


def test_rows_dropped_earlier_do_not_come_back():
    view, method = film(grid=(3, 3), frame_scores="uniform", keep=0.4)
    keep = torch.tensor([i for i in range(36) if i not in (4, 13)])
    for name in ("features", "unit", "part", "cell", "role"):
        setattr(view, name, getattr(view, name)[keep])
    view.unpooled = unpooled(view, 6)
    found = method.select(view)
    assert len(found.keep) <= method.keep_count(34) and int(found.keep.max()) < 34
    whole = view.features[16:25].view(1, 3, 3, 5)  # the third frame is complete
    torch.testing.assert_close(found.values[view.part[found.keep] == 2], resize(whole, (2, 1), "bilinear")[0])


def test_tiles_of_an_image_keep_their_newlines_by_row():
    part, cell, role = anyres_index((1, 2), 4)
    grids = [(4, 4)] * 3
    method = make_method("quota", keep=0.5)
    features = torch.randn(len(part), 5, generator=torch.Generator().manual_seed(0))
    view = tiled_view(features, method.keep_count, {}, part, cell, role, grids, {})
    found = method.select(view)
    kept = role[found.keep]
    # 24 of 48: 8 for the base crop (3 x 2), 16 for the 4 x 8 map (2 x 5 or the like), a newline per row of it
    base, rest = found.values[:6], found.keep[6:]
    torch.testing.assert_close(base, resize(features[:16].view(1, 4, 4, 5), (3, 2), "bilinear")[0])
    rows = int((kept == 1).sum())
    assert (len(rest) - rows) % rows == 0 and 12 <= len(rest) - rows <= 16
    size = (rows, (len(rest) - rows) // rows)
    stitched = features[16:].view(4, 9, 5)[:, :8][None]
    torch.testing.assert_close(
        found.values[6:].view(*size[:1], -1, 5)[:, :-1].flatten(0, 1), resize(stitched, size, "bilinear")[0]
    )
    newlines = features[16:].view(4, 9, 5)[:, 8]
    assert all(any(torch.equal(v, n) for n in newlines) for v in found.values[6:].view(rows, -1, 5)[:, -1])


def test_pairs_of_frames_take_the_better_score():
    view, method = film(frames=3, frame_scores=[0.1, 0.9, 0.2, 0.1, 0.3])
    view.units[0].info["frames_per_part"] = 2
    found = method.select(view)
    assert found.scores.view(3, 24)[:, 0].tolist() == pytest.approx([0.9, 0.2, 0.3])
    method.frame_scores = [0.9, 0.2, 0.3]
    assert torch.equal(method.select(view).values, found.values)
    method.frame_scores = [0.1] * 4
    with pytest.raises(ValueError, match=r"4 scores for a video of 3 frames \(or 6, one per frame"):
        method.select(view)


def test_without_scores_it_says_what_to_do():
    view, method = film()
    with pytest.raises(ValueError, match="handle.frame_scores.*'uniform'"):
        method.select(view)
    view, method = film(frames=1)
    assert 10 <= len(method.select(view).keep) <= 12  # a single frame needs no score


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        ([], ValueError, "empty"),
        ([0.5, float("nan")], ValueError, "frame 1 has score nan"),
        ([0.5, 0.1, -0.25], ValueError, "frame 2 has score -0.25"),
        ([float("inf")], ValueError, "frame 0 has score inf"),
        ([[0.5], [0.1, float("nan")]], ValueError, r"frame_scores\[1\]: frame 1 has score nan"),
        (torch.ones(2, 2), TypeError, r"shape \(2, 2\)"),
        ("flat", ValueError, "the only word is 'uniform'"),
        ([0.5, "much"], TypeError, "no vector of numbers"),
        (3.0, TypeError, "one score per frame"),
    ],
)
def test_bad_scores(scores, error, message):
    with pytest.raises(error, match=message):
        make_method("quota", frame_scores=scores)


@pytest.mark.parametrize(("scores", "frames"), [([0.5] * 3, 3), ([[0.5] * 4] * 2, 1), ([0.5] * 5, 5)])
def test_scores_that_do_not_fit_the_video(scores, frames):
    view, method = film(frame_scores=scores)
    message = "2 vectors for a batch with 1 videos" if frames == 1 else f"{frames} scores for a video of 4 frames:"
    with pytest.raises(ValueError, match=message):
        method.select(view)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operator": "bilinaer"}, "choose one of 'auto', 'bilinear'"),
        ({"cap": "some"}, "'official'"),
        ({"exponent": -1.0}, "exponent=-1.0"),
        ({"exponent": float("nan")}, "exponent=nan"),
        ({"min_tokens": -1}, "min_tokens=-1"),
        ({"min_tokens": 1, "cap": "official"}, "choose cap='fill'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make_method("quota", **options)
    with pytest.raises(TypeError, match="scorer"):
        make_method("quota", scorer=3)


def score_nothing(handle, inputs):
    return []


def test_it_copies_pickles_and_saves():
    method = make_method("quota", frame_scores=torch.tensor([0.5, 0.25]), scorer=score_nothing)
    assert isinstance(method.scorer, FrameScorer)
    assert pickle.loads(pickle.dumps(method)) == copy.deepcopy(method) == method
    data = method.to_dict()
    assert data["frame_scores"] == [0.5, 0.25] and "scorer" not in data
