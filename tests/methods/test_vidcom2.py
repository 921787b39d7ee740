"""VidCom2 against its specification written out with loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtc.core.budget import share_out
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support.oracles.views import plain_view, tiled_view


def select(features, keep, grid, modality="video", **options):
    (stage,) = make_method("vidcom2", keep=keep, **options).stages(ModelFacts())
    return stage.select(plain_view(features, stage.keep_count, grid=grid, modality=modality))


def expected(x, total, frames, temperature):
    """The specification, token by token, in float64."""
    x = np.asarray(x, dtype=np.float64).reshape(frames, -1, x.shape[-1])
    size = x.shape[1]
    cos = lambda a, b: float(a @ b) / (np.linalg.norm(a) * np.linalg.norm(b))  # noqa: E731
    whole = x.mean((0, 1))
    likeness = [[cos(token, whole) for token in frame] for frame in x]
    unique = [-sum(row) / size for row in likeness]
    powers = [math.exp((u - max(unique)) / temperature) for u in unique]
    weights = [size * (1 + p / sum(powers) - 1 / frames) for p in powers]
    exact = [total * w / sum(weights) for w in weights]
    while any(e > size + 1e-12 for e in exact):  # full frames hand on what they cannot take
        full = [e >= size for e in exact]
        rest = total - size * sum(full)
        free = sum(w for w, f in zip(weights, full, strict=True) if not f)
        exact = [size if f else rest * w / free for w, f in zip(weights, full, strict=True)]
    budgets = [math.floor(e + 1e-9) for e in exact]
    for t in sorted(range(frames), key=lambda t: (budgets[t] - exact[t], t))[: total - sum(budgets)]:
        budgets[t] += 1
    kept = []
    for t, frame in enumerate(x):
        score = [-a - cos(token, frame.mean(0)) for a, token in zip(likeness[t], frame, strict=True)]
        best = sorted(range(size), key=lambda m: (-score[m], m))[: budgets[t]]
        kept += sorted(t * size + m for m in best)
    return kept, budgets


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("keep", "temperature"), [(0.25, 0.01), (0.8, 0.01), (17, 0.2), (3, 0.01)])
def test_specification(seed, keep, temperature):
    generator = torch.Generator().manual_seed(seed)
    frames, height, width = 2 + seed, 3, 4
    x = torch.randn(frames * 12, 16, generator=generator, dtype=torch.float64) + 1
    total = keep if isinstance(keep, int) else round(keep * len(x))
    found = select(x, keep, (frames, height, width), temperature=temperature, preset="paper")
    kept, budgets = expected(x, total, frames, temperature)
    assert found.keep.tolist() == kept
    assert torch.bincount(found.keep // 12, minlength=frames).tolist() == budgets
    assert bool(found.scores.isfinite().all())


def test_the_unusual_frame_gets_more():
    x = torch.ones(4 * 9, 8) + 0.01 * torch.randn(36, 8, generator=torch.Generator().manual_seed(0))
    x[18:27] = torch.randn(9, 8, generator=torch.Generator().manual_seed(1))
    counts = torch.bincount(select(x, 0.5, (4, 3, 3)).keep // 9, minlength=4).tolist()
    assert sum(counts) == 18 and counts[2] == max(counts) and counts[2] > counts[0] > 0


def test_equal_tokens_tie_to_the_lower_index():
    found = select(torch.ones(12, 4), 0.5, (3, 2, 2))
    assert found.keep.tolist() == [0, 1, 4, 5, 8, 9]
    assert select(torch.ones(12, 4), 4, (3, 2, 2)).keep.tolist() == [0, 1, 4, 8]


def test_an_image_is_one_frame_whatever_its_tiles():
    x = torch.randn(24, 8, generator=torch.Generator().manual_seed(2))
    found = select(x, 0.25, (1, 4, 6), "image", preset="paper").keep
    score = -torch.cosine_similarity(x, x.mean(0, keepdim=True))
    assert found.tolist() == sorted(score.topk(6).indices.tolist())
    (stage,) = make_method("vidcom2", keep=0.25, preset="paper").stages(ModelFacts())
    part, cell = torch.arange(2).repeat_interleave(12), torch.arange(12).repeat(2)
    tiled = tiled_view(x, stage.keep_count, {}, part, cell, torch.zeros_like(part), [(3, 4)] * 2, {})
    assert stage.select(tiled).keep.tolist() == found.tolist()


def test_a_row_of_images_is_like_a_video():
    x = torch.randn(24, 8, generator=torch.Generator().manual_seed(2))
    (stage,) = make_method("vidcom2", keep=0.25, scope="row").stages(ModelFacts())
    view = plain_view(x, stage.keep_count, grid=(1, 1, 24))
    view.unit, view.units = torch.arange(2).repeat_interleave(12), [view.units[0]] * 2
    assert stage.select(view).keep.tolist() == select(x, 0.25, (2, 3, 4)).keep.tolist()


def video(seed, frames=6, size=12, width=16):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, size, width, generator=generator, dtype=torch.float64) + torch.linspace(0, 2, width)


def official(x, share, temperature=0.01):
    """The published rule with loops, before the total is made exact."""
    frames, size, width = x.shape
    variance = x.reshape(-1, width).var(0, correction=0)
    chosen = sorted(range(width), key=lambda c: (float(variance[c]), c))[: width // 2]
    y = x[..., sorted(chosen)]
    y = y / y.norm(dim=-1, keepdim=True)
    kernel = lambda a, b: sum(math.exp(-float((a - b).square().sum()) / (2 * s)) for s in (0.125, 0.25, 0.5, 1, 2))  # noqa: E731
    v = [[kernel(token, y.mean((0, 1))) for token in frame] for frame in y]
    f = [[kernel(token, frame.mean(0)) for token in frame] for frame in y]
    u = [-sum(row) / size for row in v]
    powers = [math.exp((a - max(u)) / temperature) for a in u]
    shares = [min(share * (1 + p / sum(powers) - 1 / frames), 1) for p in powers]
    counts = [max(round(r * size), 1) for r in shares]
    cost = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(v, f, strict=True)]
    kept = {(t, m) for t in range(frames) for m in sorted(range(size), key=lambda m: cost[t][m])[: counts[t]]}
    return kept, cost


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.08, 0.25, 0.7])
def test_the_published_rule_and_its_exact_total(seed, share):
    x = video(seed)
    kept, cost = official(x, share)
    free = select(x.flatten(0, 1), share, (6, 3, 4), exact=False).keep
    assert {divmod(i, 12) for i in free.tolist()} == kept
    total = max(1, round(share * 72))
    rank = lambda token: cost[token[0]][token[1]]  # noqa: E731
    rest = sorted(set((t, m) for t in range(6) for m in range(12)) - kept, key=rank)
    wanted = set(sorted(kept, key=rank)[:total]) | set(rest[: max(0, total - len(kept))])
    found = select(x.flatten(0, 1), share, (6, 3, 4)).keep
    assert {divmod(i, 12) for i in found.tolist()} == wanted and len(found) == total


def test_frames_may_change_places_and_scale_does_not_matter():
    x = video(7)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    found = select(x.flatten(0, 1), 0.25, (6, 3, 4)).keep
    moved = select(x[order].flatten(0, 1), 0.25, (6, 3, 4)).keep
    assert sorted((order[i // 12].item(), i % 12) for i in moved.tolist()) == [divmod(i, 12) for i in found.tolist()]
    assert torch.equal(select(37.0 * x.flatten(0, 1), 0.25, (6, 3, 4)).keep, found)


def test_a_still_video_has_equal_budgets_and_no_frame_is_emptied():
    still = video(8)[:1].expand(6, -1, -1).flatten(0, 1)
    assert torch.bincount(select(still, 0.25, (6, 3, 4)).keep // 12).tolist() == [3] * 6
    few = select(video(9).flatten(0, 1), 0.03, (6, 3, 4), exact=False).keep
    assert (torch.bincount(few // 12, minlength=6) >= 1).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.integers(1, 30)), min_size=1, max_size=9), st.floats(0, 1))
def test_shares_add_up(pairs, part):
    weights, sizes = torch.tensor([w for w, _ in pairs]), torch.tensor([n for _, n in pairs])
    total = int(part * int(sizes.sum()))
    shares = share_out(total, weights, sizes)
    assert int(shares.sum()) == total and bool((shares <= sizes).all()) and bool((shares >= 0).all())


def test_values_out_of_range():
    for options in ({"temperature": 0}, {"temperature": float("nan")}, {"scope": "frame"}, {"newlines": "some"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            make_method("vidcom2", **options)
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(torch.full((12, 4), torch.nan), 0.5, (3, 2, 2))
