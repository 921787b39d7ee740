from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.layout import Role
from vtc.core.stage import Decoder, ModelFacts, Need
from vtc.core.statistics import AttentionCall
from vtc.core.statistics.focus import focus, focus_dense, focus_of_call, global_set
from vtc.methods import make_method
from vtc.methods.vflowopt.ratios import mean_share, solve_last
from vtc.methods.vflowopt.recycling import lattice

from support.oracles import modest
from support.oracles import vflowopt as oracle
from support.oracles.views import anyres_index, plain_view, tiled_view

SIGLIP = ModelFacts("llava_onevision", 26, 25, False, tuple(range(26)), 28)
QWEN = ModelFacts("qwen2_5_vl", 32, 31, False, (7, 15, 23, 31), 28, True, True, True)
NEWLINE_SCORE = torch.nan


def stage_of(facts=SIGLIP, **options):
    """The first stage alone, for which ``keep`` is the share that enters the decoder."""
    (stage,) = make_method("vflowopt", progressive=False, **options).stages(facts)
    return stage


def tiled(stage, grid, side, importance=None, seed=0, width=3):
    part, cell, role = anyres_index(grid, side)
    n = len(part)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator)
    importance = torch.rand(n, generator=generator) / n if importance is None else importance
    stats = dict.fromkeys(stage.needs, importance.masked_fill(role == Role.NEWLINE, NEWLINE_SCORE))
    grids = [(side, side)] * (1 + grid[0] * grid[1])
    return tiled_view(x, stage.keep_count, stats, part, cell, role, grids, {})


def worked(stage):
    """Worked example B of the specification: base 2 x 2, stitched map 2 x 3 with newlines."""
    scores = torch.tensor([0.10, 0.40, 0.30, 0.20, 0.05, 0.60, 0.15, 1.0, 0.25, 0.35, 0.45, 1.0])
    part = torch.tensor([0] * 4 + [1, 1, 2, 2, 1, 1, 2, 2])
    cell = torch.tensor([0, 1, 2, 3, 0, 1, 0, -1, 2, 3, 2, -1])
    role = torch.tensor([0] * 7 + [1, 0, 0, 0, 1])
    x = 10.0 * torch.arange(12)[:, None]
    stats = dict.fromkeys(stage.needs, scores)
    return tiled_view(x, stage.keep_count, stats, part, cell, role, [(2, 2)] * 3, {})


def test_worked_example_of_importance():
    mean = [[0.1, 0.7, 0.1, 0.1], [0.2, 0.5, 0.2, 0.1], [0.1, 0.6, 0.1, 0.2], [0.3, 0.4, 0.2, 0.1]]
    attention = torch.tensor(mean)[None, None]
    torch.testing.assert_close(focus_dense(attention, 1.5), torch.tensor([[0.2, 0.5, 0.2, 0.1]]))


def test_worked_example_of_recycling():
    stage = stage_of(keep=0.5, cell=2)
    found = stage.select(worked(stage))
    assert found.keep.tolist() == [1, 5, 7, 9, 10, 11]
    torch.testing.assert_close(found.values[:, 0], torch.tensor([16.0, 50.0, 70.0, 82.307692, 90.0, 110.0]))
    torch.testing.assert_close(found.scores[found.keep], torch.tensor([0.4, 0.6, 1, 0.35, 0.45, 1]))


@modest
@given(st.integers(0, 999), st.integers(1, 23), st.integers(1, 3), st.floats(0, 8))
def test_two_pass_focus_matches_the_brute_force(seed, n, heads, t):
    generator = torch.Generator().manual_seed(seed)
    q, k = (3 * torch.randn(2, heads, n, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    attention = (q @ k.transpose(-1, -2) * 0.5).softmax(-1)
    expected = torch.stack([torch.from_numpy(oracle.importance(a.numpy(), t)) for a in attention])
    with mock.patch("vtc.kernels.attention.blocks.BLOCK", 5 * 2 * heads * n):  # five queries at a time
        torch.testing.assert_close(focus(q, k, 0.5, t), expected)
    torch.testing.assert_close(focus_dense(attention, t), expected)


def test_focus_shares_key_heads_and_leaves_out_leading_tokens():
    q, k = torch.randn(1, 4, 9, 6), torch.randn(1, 2, 9, 6)
    attention = (q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 0.4).softmax(-1)[:, :, 1:, 1:]
    torch.testing.assert_close(focus(q, k, 0.4, 1.1, skip=1), focus_dense(attention, 1.1))


def test_threshold_zero_is_mean_received_attention():
    attention = torch.randn(1, 2, 7, 7).softmax(-1)
    torch.testing.assert_close(focus_dense(attention, 0.0), attention.mean((1, 2)))


def test_repeated_heads_change_nothing():
    attention = torch.randn(1, 2, 7, 7).softmax(-1)
    torch.testing.assert_close(focus_dense(attention.repeat(1, 3, 1, 1), 1.2), focus_dense(attention, 1.2))


def test_nothing_above_the_threshold_falls_back_to_the_strongest():
    assert global_set(torch.tensor([[0.2, 0.4, 0.4]]), 39.0).tolist() == [[False, True, False]]


@modest
@given(st.integers(0, 999), st.sampled_from([(2, 2), (1, 2), (3, 1)]), st.floats(0.05, 0.95), st.floats(1.5, 6))
def test_matches_the_brute_force(seed, grid, keep, cell):
    stage = stage_of(keep=keep, cell=cell)
    view = tiled(stage, grid, 5, seed=seed)
    scores = view.stats[stage.needs[0]].nan_to_num(1.0)
    newline = (view.role == Role.NEWLINE).tolist()
    drop = min(round(view.n * (1 - keep)), newline.count(False) - 1)
    reserve = int(view.n / cell**2)
    place = [(r, y, x) for r, y, x in lattice(view).tolist()]
    kept, rows = oracle.stage1(view.features, scores, newline, place, drop, reserve, cell)
    found = stage.select(view)
    assert found.keep.tolist() == kept
    torch.testing.assert_close(found.values.double(), torch.from_numpy(rows), atol=1e-5, rtol=1e-5)


def test_lattice_counts_rows_of_the_stitched_map_by_newlines():
    stage = stage_of(keep=0.5)
    place = lattice(tiled(stage, (2, 1), 2))
    assert place[:4].tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert place[4:].tolist() == [[1, r, c] for r in range(4) for c in range(3)]


@modest
@given(st.integers(0, 999), st.floats(0.05, 0.95), st.booleans())
def test_merging_conserves_mass_and_keeps_newlines(seed, keep, exact):
    stage = stage_of(keep=keep, cell=3, exact_budget=exact)
    view = tiled(stage, (2, 1), 6, seed=seed)
    view.features = torch.full_like(view.features, 2.5)
    found = stage.select(view)
    torch.testing.assert_close(found.values, torch.full((len(found.keep), 3), 2.5))
    assert bool((found.keep.diff() > 0).all())
    assert int((view.role[found.keep] == Role.NEWLINE).sum()) == 12
    total = torch.zeros(len(found.keep)).index_add_(0, found.groups.clamp_min(0), found.weights)
    torch.testing.assert_close(total, torch.ones(len(found.keep)))
    if exact:
        drop = min(round(view.n * (1 - keep)), len(view.patches) - 1)
        assert len(found.keep) == view.n - drop


def test_exact_budget_trims_weak_cells_or_promotes_strong_tokens():
    # 16 cells for 12 reserved tokens, and fewer cells than the 85 reserved
    for keep, cell, trims in ((0.3, 4.0, True), (0.9, 1.5, False)):
        stage, free = stage_of(keep=keep, cell=cell, exact_budget=True), stage_of(keep=keep, cell=cell)
        view = tiled(stage, (2, 2), 6)
        found, usual = stage.select(view), free.select(view)
        assert len(found.keep) == view.n - round(view.n * (1 - keep))
        assert (len(usual.keep) > len(found.keep)) == trims
        assert bool((found.groups < 0).any()) == trims
        assert set(found.keep.tolist()) < set(usual.keep.tolist()) or not trims
        assert set(found.keep.tolist()) > set(usual.keep.tolist()) or trims


def test_vanishing_importance_gives_plain_means():
    stage = stage_of(keep=0.2, cell=3)
    view = tiled(stage, (1, 2), 3, importance=torch.zeros(9 + 21))
    values = stage.select(view).values
    assert bool(torch.isfinite(values).all())


def test_negative_entropy_weight_never_gives_negative_shares():
    stage = stage_of(keep=0.3, cell=3, alpha=-0.5)
    assert [n.stat for n in stage.needs] == ["focus", "entropy"]
    found = stage.select(tiled(stage, (2, 1), 5))
    assert bool((found.weights >= 0).all())


def test_alpha_adds_the_softmaxed_entropy():
    stage = stage_of(keep=3, alpha=2.0)
    view = plain_view(torch.zeros(5, 1), stage.keep_count)
    view.stats = {stage.needs[0]: torch.arange(5.0) / 10, stage.needs[1]: torch.tensor([0.9, 0.0, 0, 0, 0])}
    found = stage.select(view)
    torch.testing.assert_close(found.scores, torch.tensor([1.8, 0.1, 0.2, 0.3, 0.4]))
    assert found.keep.tolist() == [0, 3, 4]


@modest
@given(st.integers(0, 99), st.integers(1, 60), st.floats(0.01, 1.0))
def test_images_without_tiles_are_pruned_without_recycling(seed, n, keep):
    stage = stage_of(keep=keep)
    scores = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    found = stage.select(plain_view(torch.zeros(n, 1), stage.keep_count, {stage.needs[0]: scores}))
    assert found.values is None
    assert len(found.keep) == stage.keep_count(n) == max(1, n - round(n * (1 - keep)))
    rest = sorted(set(range(n)) - set(found.keep.tolist()))
    assert not rest or float(scores[found.keep].min()) >= float(scores[rest].max())


def test_native_resolution_images_recycle_and_videos_do_not():
    stage = stage_of(QWEN, keep=0.3, cell=3)
    scores = torch.rand(48, generator=torch.Generator().manual_seed(0))
    stats = {stage.needs[0]: scores}
    image = plain_view(torch.randn(48, 2), stage.keep_count, stats, (1, 6, 8))
    video = plain_view(torch.randn(48, 2), stage.keep_count, stats, (2, 4, 6), modality="video")
    assert stage.select(image).values is not None
    found = stage.select(video)
    assert found.values is None and len(found.keep) == stage.keep_count(48)


def test_recycling_can_be_switched_off():
    stage = stage_of(keep=0.3, recycling=False)
    assert stage.select(tiled(stage, (2, 1), 5)).values is None


@pytest.mark.parametrize("keep", [1.0, 999])
def test_keeping_everything_is_a_no_op(keep):
    stage = stage_of(keep=keep, cell=2)
    found = stage.select(tiled(stage, (2, 1), 4))
    assert found.values is None and found.keep.tolist() == list(range(16 + 8 * 5))


def test_some_patch_always_stays():
    stage = stage_of(keep=1)
    view = tiled(stage, (1, 1), 3)
    kept = stage.select(view).keep
    assert int((view.role[kept] == Role.PATCH).sum()) >= 1


def test_presets_carry_the_released_numbers():
    method = make_method("vflowopt", preset="llava-onevision-7b-10")
    assert method.keep == 0.1
    assert method.keep_count(3699) == 3699 - 3268
    stage, *cuts = method.stages(SIGLIP)
    assert [cut.at for cut in cuts] == [Decoder(9), Decoder(18)]
    assert method.ratios(3699, 28) == (0.11661529508161146, 1.0, 0.6011)
    assert stage.needs == (Need("vision", 25, "focus", 39.26492840997221),)
    assert method.cell_side(tiled(stage, (1, 1), 3)) == 17.386981849158786
    assert make_method("vflowopt", preset="llava-onevision-7b-10", t=3.0).stages(SIGLIP)[0].needs[0].option == 3.0


def test_strength_can_be_changed_after_a_preset():
    method = make_method("vflowopt", preset="llava-onevision-7b-10")
    method.keep = 64
    assert method.keep_count(729) == 64


def test_untuned_cell_follows_the_grid():
    method = make_method("vflowopt")
    stage = method.stages(SIGLIP)[0]
    assert method.keep == 0.25
    assert method.cell_side(tiled(stage, (1, 1), 27)) == 16.0


def test_preset_and_another_budget_contradict_each_other():
    with pytest.raises(ValueError, match="keep=0.1"):
        make_method("vflowopt", preset="llava-onevision-7b-10", keep=0.5)


@pytest.mark.parametrize(
    "options",
    [{"keep": 0}, {"keep": 1.5}, {"keep": -3}, {"keep": float("nan")}, {"preset": "qwen"}, {"entropy": "raw"}]
    + [{"t": -1.0}, {"cell": 0.5}, {"cell": float("nan")}, {"alpha": float("inf")}, {"positions": "compact"}],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_method("vflowopt", **options)


def test_numbers_must_be_numbers():
    with pytest.raises(TypeError, match="cell"):
        make_method("vflowopt", cell="16")


def test_bad_importance_is_refused():
    stage = stage_of(keep=0.5)
    stats = {stage.needs[0]: torch.tensor([0.1, torch.nan, 0.3])}
    with pytest.raises(ValueError, match="NaN or Inf"):
        stage.select(plain_view(torch.zeros(3, 1), stage.keep_count, stats))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_features_are_refused_when_they_would_be_merged(bad):
    stage = stage_of(keep=0.3)
    view = tiled(stage, (2, 1), 4)
    view.features[3, 0] = bad
    with pytest.raises(ValueError, match="NaN or Inf"):
        stage.select(view)


def test_half_precision_is_merged_in_full_precision():
    stage = stage_of(keep=0.1, cell=9)
    view = tiled(stage, (2, 2), 9)
    view.features = torch.full_like(view.features, 60000.0).half()
    values = stage.select(view).values
    assert values.dtype == torch.float16 and bool((values == 60000).all())


def test_round_trip():
    method = make_method("vflowopt", preset="llava-onevision-7b-50", t=4.0, exact_budget=True)
    settings = method.to_dict()
    assert make_method(settings.pop("method"), **settings) == method


@pytest.mark.parametrize(("preset", "budget"), [("50", 0.5008), ("25", 0.2507), ("10", 0.1000)])
def test_released_ratios_spend_the_released_budget(preset, budget):
    ratios = make_method("vflowopt", preset=f"llava-onevision-7b-{preset}").ratios(729, 28)
    assert round(mean_share(ratios, 28), 4) == budget


@given(st.floats(0.01, 1.0), st.integers(3, 80), st.sampled_from([None, "10", "25", "50"]))
def test_any_budget_is_spent_exactly(keep, layers, preset):
    method = make_method("vflowopt", preset=preset and f"llava-onevision-7b-{preset}")
    method.keep = keep
    ratios = method.ratios(729, layers)
    assert all(0 < r <= 1 for r in ratios)
    if preset is None or keep != make_method("vflowopt", preset=f"llava-onevision-7b-{preset}").keep:
        assert abs(mean_share(ratios, layers) - keep) < 1e-6
        if ratios.r1 < 1:
            assert abs(solve_last(ratios.r1, ratios.r2, keep, layers) - ratios.r3) < 1e-6


def test_worked_example_of_later_stages():
    """The output of worked example B, whose recycled tokens go first and whose newlines go last."""
    method = make_method("vflowopt", keep=0.5, cell=2, r1=0.5, r2=0.75, r3=0.5)
    first, second, third = method.stages(SIGLIP)
    found = first.select(worked(first))
    scores = found.scores[found.keep]
    role = torch.tensor([0, 0, 1, 0, 0, 1])
    for stage, expected in ((second, [5, 7, 10, 11]), (third, [7, 11])):
        view = plain_view(torch.zeros(len(scores), 1), stage.keep_count, {stage.needs[0]: scores})
        view.role = role
        kept = stage.select(view).keep
        scores, role = scores[kept], role[kept]
        found.keep = found.keep[kept]
        assert found.keep.tolist() == expected


def test_part_of_the_ratios_is_refused():
    with pytest.raises(ValueError, match="all three"):
        make_method("vflowopt", r1=0.5)


@pytest.mark.parametrize("t", [0.5, 1.2, 50.0])
@pytest.mark.parametrize("form", ["mask", "bounds"])
def test_images_in_one_sequence_do_not_mix(t, form):
    generator = torch.Generator().manual_seed(3)
    q, k = 3 * torch.randn(2, 1, 2, 12, 4, generator=generator)
    image = torch.tensor([0] * 5 + [1] * 7)
    call = AttentionCall(q, k, 0.5, mask=(image[:, None] == image)[None, None])
    if form == "bounds":
        call = AttentionCall(q, k, 0.5, segments=(5, 7))
    found = focus_of_call(call, t)
    for columns in (slice(0, 5), slice(5, 12)):
        attention = torch.softmax(q[:, :, columns] @ k[:, :, columns].mT * 0.5, -1)
        torch.testing.assert_close(found[:, columns], focus_dense(attention, t))
