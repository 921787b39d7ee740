"""Coverage: the incremental operator against the table in full, and the methods built on it."""

from __future__ import annotations

import pytest
import torch

from vtc.core import coverage
from vtc.core.coverage import Cosines, Softmaxes, Stacked, greedy_cover
from vtc.core.diversity import unit_rows
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support.oracles.views import plain_view

FACTS = ModelFacts(family="llava", vision_layers=24, feature_layer=22, has_class_token=True)
SHARE = torch.tensor([[1, 0.8, 0.1, 0], [0.8, 1, 0.2, 0], [0.1, 0.2, 1, 0.5], [0, 0, 0.5, 1]], dtype=torch.float64)
SALIENCY = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)


def random(seed, n, d=16):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(table, k, score, first=None):
    """The table in full, read anew at every pick."""
    picks = [] if first is None else [first]
    covered = torch.zeros(len(table), dtype=table.dtype) if first is None else table[:, first]
    while len(picks) < k:
        gain = (table - covered[:, None]).clamp_min(0).sum(0)
        free = torch.ones(table.shape[1], dtype=torch.bool)
        free[picks] = False
        value = score(gain, covered, free).masked_fill(~free, -torch.inf)
        picks.append(int(value.argmax()))
        covered = torch.maximum(covered, table[:, picks[-1]])
    return picks, covered


def by_gain(gain, covered, free):
    return gain


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("first", [None, 3])
def test_incremental_is_naive_on_cosines(seed, first, monkeypatch):
    monkeypatch.setattr(coverage, "BLOCK", 200)  # several blocks of a few rows
    unit = unit_rows(random(seed, 60))
    weight = torch.rand(60, generator=torch.Generator().manual_seed(seed)).double()
    score = lambda gain, covered, free: gain * weight  # noqa: E731
    start = None if first is None else torch.tensor(first)
    found = greedy_cover(Cosines(unit), 25, score, start)
    picks, covered = naive(unit @ unit.T, 25, score, first)
    assert found.order.tolist() == picks
    assert torch.allclose(found.covered, covered, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_incremental_is_naive_on_softmaxes(seed, monkeypatch):
    monkeypatch.setattr(coverage, "BLOCK", 150)
    v, t = unit_rows(random(seed, 40)), unit_rows(random(seed + 9, 7))
    words, image = Softmaxes(t, v, 0.02, 1 / 7), Softmaxes(v, v, 0.2, 0.5 / 40)
    table = torch.cat([torch.softmax(t @ v.T / 0.02, 1) / 7, torch.softmax(v @ v.T / 0.2, 1) / 80])
    both = Stacked(words, image)
    assert torch.allclose(both.rows(torch.arange(47)), table, atol=1e-12)
    assert torch.allclose(both.column(torch.tensor(5)), table[:, 5], atol=1e-12)
    found = greedy_cover(both, 20, by_gain)
    picks, covered = naive(table, 20, by_gain)
    assert found.order.tolist() == picks
    assert found.values.sum().item() == pytest.approx(covered.sum().item(), rel=1e-9)
    assert (found.values.diff() <= 1e-12).all()
    assert greedy_cover(both, 8, by_gain).order.tolist() == picks[:8]


def test_the_worked_example():
    rows = torch.linalg.cholesky(SHARE)
    found = greedy_cover(Cosines(rows), 3, lambda gain, covered, free: gain * SALIENCY)
    assert found.order.tolist() == [0, 2, 1]
    assert found.values.tolist() == pytest.approx([0.76, 0.28, 0.06])


def test_nothing_of_the_size_of_a_table_is_made(monkeypatch):
    """4,096 tokens: what exists at a time stays below a quarter of their table."""
    monkeypatch.setattr(coverage, "BLOCK", 1 << 20)
    sizes = []
    unit = unit_rows(random(0, 4096, 8).float())

    class Watched(Cosines):
        def rows(self, index):
            made = super().rows(index)
            sizes.append(made.numel())
            return made

    greedy_cover(Watched(unit), 40, by_gain)
    assert max(sizes) <= 1 << 20 and sum(sizes) < 8 * 4096**2


def select(name, x, keep, text=None, saliency=None, **options):
    (stage,) = make_method(name, keep=keep, **options).stages(FACTS)
    view = plain_view(x, stage.keep_count, dict.fromkeys(stage.needs, saliency))
    view.text = text
    return stage.select(view).keep.tolist()


def test_scope_does_not_depend_on_scales():
    x, saliency = random(1, 30), torch.rand(30, generator=torch.Generator().manual_seed(1))
    base = select("scope", x, 8, saliency=saliency)
    assert select("scope", x * torch.linspace(0.5, 3, 30)[:, None], 8, saliency=saliency) == base
    assert select("scope", x, 8, saliency=7 * saliency) == base
    alone = select("scope", x, 1, alpha=0.0)
    unit = unit_rows(x)
    assert alone == [int((unit @ unit.T).clamp_min(0).sum(0).argmax())]
    assert make_method("scope", alpha=0.0).stages(FACTS)[0].needs == ()


def test_mmtok_looks_at_words_and_image():
    x, text = random(2, 30), random(3, 5)
    base = select("mmtok", x, 6, text)
    assert select("mmtok", x, 6, text[torch.tensor([4, 2, 0, 1, 3])]) == base
    assert select("mmtok", x, 6, text[:0]) == select("mmtok", x, 6)
    words = select("mmtok", x, 1, text, alpha=0.0)
    table = torch.softmax(unit_rows(text) @ unit_rows(x).T / 0.02, 1)
    assert words == [int(table.sum(0).argmax())]


@pytest.mark.parametrize("name", ["scope", "mmtok"])
def test_edges(name):
    flat = torch.full((9,), 0.1)
    assert select(name, random(0, 9), 9, saliency=flat) == list(range(9))
    assert len(select(name, random(0, 9), 1, saliency=flat)) == 1
    assert len(select(name, torch.ones(9, 4), 4, saliency=flat)) == 4
    assert len(select(name, torch.zeros(9, 4), 4, saliency=flat)) == 4
    with pytest.raises(ValueError, match="NaN or Inf"):
        select(name, torch.full((9, 4), torch.nan), 4, saliency=flat)
    with pytest.raises(ValueError, match="alpha"):
        make_method(name, alpha=-1)
    (stage,) = make_method(name, keep=7).stages(FACTS)
    view = plain_view(random(5, 24), stage.keep_count, dict.fromkeys(stage.needs, torch.full((24,), 0.1)))
    view.part = torch.arange(24) // 8
    kept = stage.select(view).keep
    assert torch.bincount(kept // 8, minlength=3).tolist() == [3, 2, 2]
