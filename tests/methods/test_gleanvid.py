"""GleanVID: its quantities by least squares in float64, and properties of the choice."""

from __future__ import annotations

import pytest
import torch

from vtc.core.stage import ModelFacts
from vtc.core.subspace import SMALL, Span, leading_direction, residual_to_past
from vtc.methods import make_method
from vtc.methods.gleanvid import cell_means, debiased, gini, places

from support.oracles.views import plain_view

GRID = (5, 3, 4)
N = 12


def video(seed, frames=5, d=16):
    return torch.randn(frames * N, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def view_of(x, keep, grid=GRID):
    (stage,) = make_method("gleanvid", keep=keep).stages(ModelFacts())
    return stage, plain_view(x, stage.keep_count, grid=grid, modality="video")


def select(x, keep, grid=GRID):
    stage, view = view_of(x, keep, grid)
    return stage.select(view).keep.tolist()


def distance(row, past):
    """Of a row [D] to the span of rows [M, D], by least squares."""
    if not len(past):
        return float(row.norm())
    return float((row - past.T @ torch.linalg.lstsq(past.T, row[:, None]).solution[:, 0]).norm())


@pytest.mark.parametrize("history", [None, 2])
def test_novelty_is_the_distance_to_earlier_frames(history):
    rows = torch.randn(5, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = residual_to_past(rows, history, ridge=1e-12)
    for t in range(5):
        for n in range(3):
            past = rows[max(0, t - (history or t)) : t, n]
            assert float(found[t, n]) == pytest.approx(distance(rows[t, n], past), abs=1e-6)


def test_the_rest_of_every_token_is_its_distance_to_what_was_kept():
    x, kept = video(1), []
    span = Span(x)
    for t in range(5):
        mine = torch.arange(t * N, (t + 1) * N)
        expected = [distance(x[i], x[kept]) for i in mine]
        assert span.rest(mine).tolist() == pytest.approx(expected, abs=1e-6)
        chosen = mine[[1, 5]]
        span.add(chosen, mine)
        kept += chosen.tolist()


def test_a_span_that_is_full_takes_in_no_noise():
    x = video(2, frames=5, d=4).float()
    span = Span(x)
    for t in range(3):
        mine = torch.arange(t * N, (t + 1) * N)
        span.add(mine[:6], mine)
    assert span.basis.shape[1] == 4
    assert not span.rest(torch.arange(len(x))).any()


def test_the_leading_direction_by_iteration_is_that_of_svd():
    x = torch.randn(SMALL + 80, SMALL + 60, generator=torch.Generator().manual_seed(3))
    x += 8 * torch.randn(len(x), 1) * torch.randn(1, x.shape[1])
    x -= x.mean(0)
    found, whole = leading_direction(x), torch.linalg.svd(x, full_matrices=False).Vh[0]
    assert abs(float(found @ whole)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("keep", [1, 0.3, 20, 59])
def test_budgets_add_up_and_no_frame_gets_more_than_it_has(seed, keep):
    x = video(seed)
    kept = select(x, keep)
    assert len(kept) == (keep if isinstance(keep, int) else round(keep * 60))
    assert kept == sorted(set(kept))


def test_frames_that_repeat_get_less_than_the_first():
    still = torch.cat([video(4)[:N]] * 3 + [video(5)[: 2 * N]])
    stage, view = view_of(still, 20)
    frame, cell = places(view, view.patches)
    pooled, slot = cell_means(debiased(still), frame, cell)
    novelty = residual_to_past(pooled, None)
    assert float(novelty[1:3].max()) < 0.05 * float(novelty[0].min())
    counts = torch.tensor(select(still, 20)).div(N, rounding_mode="floor").bincount(minlength=5).tolist()
    assert max(counts[1:3]) < min(counts[0], *counts[3:])


def test_rotations_of_the_features_change_nothing():
    x = video(6)
    q, _ = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(7)))
    assert select(x @ q, 0.3) == select(x, 0.3)
    assert select(3 * x, 0.3) != list(range(18))


def test_gini():
    assert gini(torch.ones(7)) == pytest.approx(0, abs=1e-12)
    assert gini(torch.tensor([0.0, 0, 0, 1])) == pytest.approx(0.75)
    assert gini(torch.zeros(3)) == 0


def test_edges():
    x = video(8)
    assert select(x, 1.0) == list(range(60))
    assert len(select(x[:N], 0.5, (1, 3, 4))) == 6  # an image is one frame
    assert len(select(torch.ones(60, 16), 0.3)) == 18  # nothing differs
    assert len(select(torch.zeros(60, 16), 0.3)) == 18
    broken = x.clone()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        select(broken, 0.3)
    with pytest.raises(ValueError, match="history"):
        make_method("gleanvid", keep=0.3, history=0)
    with pytest.raises(ValueError, match="tau"):
        make_method("gleanvid", keep=0.3, tau=0)
