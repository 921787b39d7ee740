"""EVS and V-CAST: worked examples, loops in float64, properties, edges, and prompts they do not act on."""

from __future__ import annotations

import math

import pytest
import torch

import vtc
from vtc.core.layout import Role
from vtc.core.stage import ModelFacts
from vtc.methods import make_method
from vtc.methods.evs import FIRST, changes
from vtc.methods.vcast import allocate, curvature

from support import tiny, tiny_families
from support.oracles.views import plain_view

GRID = (5, 3, 4)
N = 12


def video(seed, frames=5, d=16):
    return torch.randn(frames * N, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def select(name, x, keep, grid=GRID, modality="video", **options):
    (stage,) = make_method(name, keep=keep, **options).stages(ModelFacts())
    return stage.select(plain_view(x, stage.keep_count, grid=grid, modality=modality))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("keep", [0.3, 0.5, 20])
def test_evs_is_the_rule_written_out(seed, keep):
    x = video(seed)
    cos = lambda a, b: float(a @ b / (a.norm() * b.norm()))  # noqa: E731
    d = [FIRST if i < N else 1 - cos(x[i], x[i - N]) for i in range(len(x))]
    total = max(N, keep if isinstance(keep, int) else round(keep * len(x)))
    best = sorted(range(len(x)), key=lambda i: (-d[i], i))[:total]
    found = select("evs", x, keep)
    assert found.keep.tolist() == sorted(best)
    assert set(range(N)) <= set(found.keep.tolist())


def test_a_still_video_keeps_its_first_frame_and_then_the_earliest():
    still = video(1)[:N].repeat(5, 1).float()
    assert select("evs", still, 0.3).keep.tolist() == list(range(18))
    assert select("evs", still, 1).keep.tolist() == list(range(N))
    assert torch.equal(select("evs", 2 * video(2), 0.4).keep, select("evs", video(2), 0.4).keep)


def test_changes_are_those_of_a_cell_whatever_was_dropped_before():
    x = video(3)
    part, cell = torch.arange(60) // N, torch.arange(60) % N
    some = torch.tensor([0, 5, 12, 17, 29, 41, 53])
    found = changes(x[some], part[some], cell[some])
    whole = changes(x, part, cell)
    assert found[[0, 1]].tolist() == [FIRST, FIRST]
    assert found[[2, 3, 5, 6]].tolist() == pytest.approx(whole[[12, 17, 41, 53]].tolist())
    assert found[4].item() == pytest.approx(whole[29].item())


def test_evs_says_what_it_leaves_alone():
    case = tiny_families.ALL["qwen2_5_vl"]
    model, inputs = case.build(), tiny.alone(case, 0)
    with torch.no_grad():
        plain = model(**inputs).logits
        with vtc.patched(model, "evs", keep=0.25) as handle:
            with pytest.warns(UserWarning, match="acts on videos only.*1 image"):
                assert torch.equal(model(**inputs).logits, plain)
            assert handle.last.before == handle.last.after
    with pytest.raises(ValueError, match="videos only, and family 'llava' takes images"):
        vtc.patch(tiny_families.ALL["llava-clip"].build(), "evs")


def loops(x, share, temperature=0.7, least=1):
    """V-CAST in loops, what rounding leaves by largest remainder."""
    frames = x.reshape(5, N, -1)
    z = [f.mean(0) / f.mean(0).norm() for f in frames]
    cos = lambda a, b: float(a @ b / (a.norm() * b.norm()))  # noqa: E731
    c = [1.0, *(1 - cos(z[t] - z[t - 1], z[t + 1] - z[t]) for t in range(1, 4)), 1.0]
    powers = [math.exp(v / temperature) for v in c]
    weights = [p / sum(powers) for p in powers]
    total = max(1, round(share * len(x)))
    exact = [least + w * (total - 5 * least) for w in weights]
    counts = [math.floor(e) for e in exact]
    for t in sorted(range(5), key=lambda t: (counts[t] - exact[t], t))[: total - sum(counts)]:
        counts[t] += 1
    kept = []
    for t, frame in enumerate(frames):
        norms = [float(token.norm()) for token in frame]
        spread = max(norms) - min(norms) + 1e-6
        score = [1 - cos(token, z[t]) + (n - min(norms)) / spread for token, n in zip(frame, norms, strict=True)]
        kept += sorted(t * N + i for i in sorted(range(N), key=lambda i: (-score[i], i))[: counts[t]])
    return kept, counts


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.15, 0.25, 0.6])
def test_vcast_is_the_rule_written_out(seed, share):
    kept, counts = loops(video(seed), share)
    assert max(counts) < N
    assert select("vcast", video(seed), share).keep.tolist() == kept


def test_curvature_of_a_straight_path_and_of_a_corner():
    straight = torch.tensor([[0.0, 0], [1, 0], [2, 0], [2, 1], [1, 1]])
    assert curvature(straight).tolist() == pytest.approx([1, 0, 1, 1, 1])
    assert curvature(torch.zeros(4, 3)).tolist() == [1, 1, 1, 1]
    assert curvature(torch.ones(1, 3)).tolist() == [1] and curvature(torch.ones(2, 3)).tolist() == [1, 1]


def test_budgets_are_exact_whatever_the_weights():
    for leftover in ("official", "largest_remainder"):
        for total in range(0, 40):
            counts = allocate(total, torch.tensor([0.9, 0.05, 0.0, 0.05]), [8, 9, 10, 3], 1, leftover)
            assert sum(counts) == min(total, 30)
            assert all(0 <= c <= n for c, n in zip(counts, [8, 9, 10, 3], strict=True))
            assert total < 4 or min(counts) >= 1


@pytest.mark.parametrize("name", ["evs", "vcast"])
def test_edges(name):
    x = video(5)
    assert select(name, x, 60).keep.tolist() == list(range(60))
    assert len(select(name, x, 1).keep) == (N if name == "evs" else 1)
    assert len(select(name, torch.zeros(60, 8), 0.5).keep) == 30
    one = select(name, x[:N], 0.5, grid=(1, 3, 4)).keep
    assert len(one) == (N if name == "evs" else 6)
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(name, torch.full((60, 8), torch.nan), 0.5)
    (stage,) = make_method(name, keep=0.5).stages(ModelFacts())
    view = plain_view(x, stage.keep_count, grid=GRID, modality="video")
    view.role = view.role.clone()
    view.role[-1] = int(Role.NEWLINE)
    assert 59 not in stage.select(view).keep.tolist()


def test_values_out_of_range():
    for options in ({"temperature": 0}, {"min_per_frame": -1}, {"leftover": "all"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            make_method("vcast", **options)
