import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.layout import Role
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support.oracles import hired as oracle
from support.oracles import modest
from support.oracles.views import anyres_index, plain_view, tiled_view

FACTS = ModelFacts("llava_next", 24, 22, True, tuple(range(24)), 32)
WORKED = torch.tensor([5, 5, 1, 1, 5, 5, 1, 1, 1, 1, 2, 2, 1, 1, 2, 2]) / 100


def stage_of(facts=FACTS, **options):
    (stage,) = make_method("hired", **options).stages(facts)
    return stage


class Tiled:
    """An anyres image with random attention; ``rows``, ``cols`` cut the canvas as unpadding does."""

    def __init__(self, seed, grid, side, base=None, complete=True, **cut):
        self.grid, self.side, self.complete = grid, side, complete
        generator = torch.Generator().manual_seed(seed)
        parts = 1 + grid[0] * grid[1]
        self.early = torch.rand(parts, side * side, generator=generator)
        self.late = torch.rand(parts, side * side, generator=generator)
        if base is not None:
            self.early[0] = base
        self.part, self.cell, self.role = anyres_index(grid, side, **cut)

    def view(self, stage):
        maps = dict(zip(stage.needs, (list(self.early), list(self.late)), strict=True))
        hidden = self.role == Role.NEWLINE
        stats = {}
        for need, raw in maps.items():
            stats[need] = torch.stack(raw)[self.part, self.cell].masked_fill(hidden, torch.nan)
        info = {"tile_grid": self.grid, **({"part_stats": maps} if self.complete else {})}
        grids = [(self.side, self.side)] * len(self.early)
        x = torch.zeros(len(self.part), 1)
        return tiled_view(x, stage.keep_count, stats, self.part, self.cell, self.role, grids, info)

    def counts(self, **options):
        """Kept patches per partition."""
        stage = stage_of(**options)
        view = self.view(stage)
        kept = stage.select(view).keep
        patches = kept[view.role[kept] == Role.PATCH]
        return torch.bincount(view.part[patches], minlength=len(self.early)).tolist()


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, [8, 4, 0, 0, 1]),
        ({"leftover": "largest_remainder"}, [8, 4, 1, 1, 2]),
        ({"preset": "official"}, [8, 2, 2, 2, 2]),
        ({"content": "count"}, [8, 4, 0, 0, 4]),
    ],
)
def test_worked_example(options, counts):
    assert Tiled(0, (2, 2), 4, WORKED).counts(keep=0.2, **options) == counts


GRIDS = st.sampled_from([(2, 2), (1, 2), (2, 1), (3, 1), (1, 3), (3, 2)])


@modest
@given(st.integers(0, 99), GRIDS, st.sampled_from([3, 4, 7]), st.floats(0.05, 0.95), st.floats(0, 1))
def test_matches_the_brute_force(seed, grid, side, rate, alpha):
    image = Tiled(seed, grid, side)
    stage = stage_of(keep=rate, alpha=alpha)
    view = image.view(stage)
    budgets = oracle.budgets(image.early[0], grid, side, len(image.early), rate, alpha)
    kept = stage.select(view).keep
    assert bool((kept.diff() > 0).all())
    chosen = [oracle.strongest(image.late[p], k) for p, k in enumerate(budgets)]
    pairs = list(zip(view.part[kept].tolist(), view.cell[kept].tolist(), strict=True))
    rows = zip(view.part.tolist(), view.cell.tolist(), strict=True)
    wanted = [(p, c) for p, c in rows if c in chosen[p]]
    assert pairs == wanted or (not wanted and len(pairs) == 1)


@modest
@given(st.integers(0, 99), GRIDS, st.floats(0.05, 0.95), st.sampled_from(["paper", "official"]), st.booleans())
def test_budget_is_a_bound_whatever_unpadding_removes(seed, grid, rate, preset, mask_padding):
    image = Tiled(seed, grid, 6, rows=slice(2, grid[0] * 6 - 2))
    counts = image.counts(keep=rate, preset=preset, mask_padding=mask_padding)
    total = int(len(image.early) * 36 * rate)
    assert 1 <= sum(counts) <= max(1, total)
    if mask_padding:
        assert sum(counts) >= sum(image.counts(keep=rate, preset=preset))


def test_largest_remainder_spends_the_whole_budget_around_full_tiles():
    base = torch.full((16,), 1e-6)
    base[:2] = 1.0
    assert sum(Tiled(0, (2, 2), 4, base).counts(keep=0.7, leftover="largest_remainder")) == int(80 * 0.7)


def test_mirrored_image_gets_mirrored_budgets():
    base = torch.rand(6, 6, generator=torch.Generator().manual_seed(3))
    straight = Tiled(0, (2, 2), 6, base.reshape(-1)).counts(keep=0.3)
    mirrored = Tiled(0, (2, 2), 6, base.flip(1).reshape(-1)).counts(keep=0.3)
    assert [mirrored[i] for i in (0, 2, 1, 4, 3)] == straight


def test_more_attention_in_a_region_never_costs_its_tile():
    base = torch.rand(6, 6, generator=torch.Generator().manual_seed(4))
    before = Tiled(0, (2, 2), 6, base.reshape(-1)).counts(keep=0.3)
    base[:3, 3:] *= 2
    after = Tiled(0, (2, 2), 6, base.reshape(-1)).counts(keep=0.3)
    assert after[2] >= before[2]
    assert all(after[i] <= before[i] for i in (1, 3, 4))


def test_tiles_attention_does_not_change_budgets():
    image = Tiled(5, (2, 2), 5)
    before = image.counts(keep=0.3)
    image.late[1:] = image.late[1:].flip(0)
    image.early[1:] = 0.0
    assert image.counts(keep=0.3) == before


def test_kept_sets_grow_with_the_rate():
    image = Tiled(6, (2, 2), 6)
    kept = []
    for rate in (0.1, 0.3, 0.6):
        stage = stage_of(keep=rate)
        kept.append(set(stage.select(image.view(stage)).keep.tolist()))
    assert kept[0] < kept[1] < kept[2]


def test_no_content_splits_evenly():
    assert Tiled(0, (2, 2), 4, torch.zeros(16)).counts(keep=0.2) == [8, 2, 2, 2, 2]


def test_at_least_one_token_stays():
    assert Tiled(0, (2, 2), 4, WORKED).counts(keep=0.01) == [1, 0, 0, 0, 0]


@pytest.mark.parametrize("keep", [1.0, 10_000])
def test_keeping_everything_keeps_newlines_too(keep):
    image = Tiled(0, (2, 1), 4)
    stage = stage_of(keep=keep)
    view = image.view(stage)
    assert stage.select(view).keep.tolist() == list(range(view.n))


def test_newlines_come_on_top_of_the_budget():
    image = Tiled(0, (2, 1), 4)
    stage = stage_of(keep=0.2, newlines="keep")
    view = image.view(stage)
    kept = stage.select(view).keep
    assert int((view.role[kept] == Role.NEWLINE).sum()) == 8
    assert len(kept) - 8 == sum(image.counts(keep=0.2))


def test_count_is_the_total_budget():
    # exact halves: no remainder is lost
    assert sum(Tiled(0, (1, 2), 4, torch.ones(16)).counts(keep=20)) == 20


def test_without_complete_maps_the_packed_tokens_are_what_counts():
    image = Tiled(7, (2, 2), 6, complete=False, rows=slice(2, 10))
    stage = stage_of(keep=0.25)
    view = image.view(stage)
    patches = int((view.role == Role.PATCH).sum())
    assert int(patches * 0.25) - 4 <= len(stage.select(view).keep) <= int(patches * 0.25)


@modest
@given(st.integers(0, 99), st.integers(1, 80), st.floats(0.01, 0.99))
def test_image_without_tiles_keeps_the_truncated_share(seed, n, rate):
    scores = torch.rand(n, generator=torch.Generator().manual_seed(seed))
    stage = stage_of(keep=rate)
    kept = stage.select(plain_view(torch.zeros(n, 1), stage.keep_count, dict.fromkeys(stage.needs, scores))).keep
    assert len(kept) == max(1, int(n * rate)) == stage.keep_count(n)
    assert set(kept.tolist()) == oracle.strongest(scores, len(kept))


def test_frames_are_images_of_their_own():
    scores = torch.arange(40.0)
    stage = stage_of(keep=0.3)
    stats = dict.fromkeys(stage.needs, scores)
    view = plain_view(torch.zeros(40, 1), stage.keep_count, stats, (4, 2, 5), modality="video")
    assert stage.select(view).keep.tolist() == [7, 8, 9, 17, 18, 19, 27, 28, 29, 37, 38, 39]


def test_encoders_without_class_token_read_layers_that_see_the_image():
    qwen = ModelFacts("qwen2_5_vl", 32, 31, False, (7, 15, 23, 31), 28, True)
    assert [(n.layer, n.stat) for n in stage_of(qwen).needs] == [(7, "received"), (31, "received")]


def test_missing_tile_grid_is_explained():
    image = Tiled(0, (2, 2), 4)
    stage = stage_of(keep=0.2)
    view = image.view(stage)
    del view.units[0].info["tile_grid"]
    with pytest.raises(ValueError, match="tile_grid"):
        stage.select(view)


def test_bad_attention_is_refused():
    image = Tiled(0, (2, 2), 4)
    image.early[0, 3] = torch.nan
    stage = stage_of(keep=0.2)
    with pytest.raises(ValueError, match="NaN or Inf"):
        stage.select(image.view(stage))


@pytest.mark.parametrize(
    "options",
    [
        {"keep": 0},
        {"keep": 1.5},
        {"keep": -3},
        {"keep": float("nan")},
        {"alpha": 1.1},
        {"alpha": float("nan")},
    ]
    + [{"preset": "code"}, {"content": "sum"}, {"region": "band"}, {"leftover": "even"}],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_method("hired", **options)


def test_alpha_must_be_a_number():
    with pytest.raises(TypeError, match="alpha"):
        make_method("hired", alpha="half")


def test_round_trip():
    method = make_method("hired", keep=0.4, preset="official", leftover="largest_remainder", mask_padding=True)
    settings = method.to_dict()
    assert make_method(settings.pop("method"), **settings) == method
