"""The registry of statistics: complete, read by everybody, and refusing what does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from vtc.core import statistics
from vtc.core.stage import Need
from vtc.core.statistics import STATISTICS, AttentionCall, Context, Stat, statistic
from vtc.core.statistics.entropy import patch_entropy
from vtc.core.statistics.transition import token_change

ROOT = Path(__file__).parents[2]


def test_names_are_those_of_the_type_and_of_the_documentation():
    assert tuple(STATISTICS) == get_args(Stat)
    documented = re.findall(r"^``(\w+)``$", statistics.__doc__, re.MULTILINE)
    assert sorted(documented) == sorted(STATISTICS)
    assert all(statistic(name).name == name for name in STATISTICS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("vision", 3, "recieved"), "no statistic 'recieved'. Did you mean 'received'"),
        (("vision", 3, None), "no statistic None"),
        (("decoder", 3, "class_row"), "'class_row' does not exist in tower 'decoder'; allowed there: .*query_rows"),
        (("projector", 3, "focus"), "the towers are 'vision' and 'decoder'"),
        (("decoder", 3, "hidden_in"), "'hidden_in' exists at layer 0 only, not at layer 3"),
    ],
)
def test_a_need_for_what_does_not_exist_is_refused_at_once(given, message):
    with pytest.raises(ValueError, match=message):
        Need(*given)


def test_nobody_compares_names_of_statistics():
    files = [f for room in ("vtc/engine", "vtc/methods", "adapters") for f in (ROOT / room).rglob("*.py")]
    assert len(files) > 60
    compared = re.compile(r"\.stat\s*(==|!=|in\b|not in\b)")
    assert not [str(f.relative_to(ROOT)) for f in files if compared.search(f.read_text())]


class Prompt(Context):
    """Six columns: one of the system, two visual ones, three of text behind them; the first counts for nothing."""

    visual = torch.tensor([[False, True, True, False, False, False]])
    text = torch.tensor([[False, False, False, True, True, True]])

    def queries(self, option):
        columns = {"last": [5], "text": [3, 4, 5]}[option]
        return torch.tensor([columns]), torch.ones(1, len(columns), dtype=torch.bool)

    def kinds(self, system):
        return self.text, self.visual

    def counted(self, visual_only):
        return self.visual if visual_only else torch.arange(6)[None] > 0

    def end(self, keys):
        return 6


def attention(causal: bool) -> tuple[AttentionCall, torch.Tensor]:
    q, k = torch.randn(2, 1, 2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    score = q @ k.mT * 0.5
    if causal:
        score = score.masked_fill(torch.ones(6, 6).triu(1) > 0, -torch.inf)
    return AttentionCall(q, k, 0.5, causal=causal), score.softmax(-1).mean(1)[0]


@pytest.mark.parametrize(
    ("name", "option", "causal", "expected"),
    [
        ("class_row", None, False, lambda a: a[0, 1:]),
        ("received", None, False, lambda a: a.mean(0)),
        ("received", None, True, lambda a: a.sum(0) / torch.arange(6, 0, -1)),
        ("query_rows", None, True, lambda a: a[5]),
        ("query_rows", "text", True, lambda a: a[3:].mean(0)),
        ("next_rows", "last", True, lambda a: a[5]),
        ("masses", None, True, lambda a: torch.stack([a[3:, 1:3].sum(1).mean(), torch.zeros(()).double()])),
        ("focus", 0.0, False, lambda a: a.mean(0)),
    ],
)
def test_attention_statistics_by_hand(name, option, causal, expected):
    call, whole = attention(causal)
    found = statistic(name).compute(call, option, Prompt())[0]
    torch.testing.assert_close(found, expected(whole))
    assert (len(found) == 6) == (statistic(name).per_token and statistic(name).class_column)


def test_focus_drops_the_leading_tokens_of_its_tower():
    call, whole = attention(False)

    class Tower(Context):
        skip = 1

    found = statistic("focus").compute(call, 0.0, Tower())[0]
    assert found[0].isnan()
    torch.testing.assert_close(found[1:], whole[1:, 1:].mean(0))


@pytest.mark.parametrize("domain", ["sequence", "image"])
def test_transitions_compare_the_tokens_that_count(domain):
    u, y = torch.rand(2, 1, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) + 0.1
    turn = torch.exp(1 - torch.cosine_similarity(u, y, -1))[0]
    counted = Prompt().counted(domain == "image")[0]
    expected = torch.where(counted, y[0].norm(dim=1) / u[0].norm(dim=1) * turn / turn[counted].sum(), 0.0)
    torch.testing.assert_close(token_change(u, y, ("signed", domain), Prompt())[0], expected)
    if domain == "sequence":
        torch.testing.assert_close(token_change(u, y, None, Prompt())[0], expected)
    with pytest.raises(NotImplementedError, match="does not say which tokens count"):
        token_change(u, y, None, Context())


@pytest.mark.parametrize("mode", ["paper", "wrapped"])
def test_entropy_of_pixels_is_a_share_of_the_partition(mode):
    pixels = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(5)) - 0.5
    bits = patch_entropy(pixels, 4, mode, (0.4,) * 3, (0.3,) * 3).flatten()
    rows = pixels.reshape(1, 3, 2, 4, 3, 4).permute(0, 2, 4, 1, 3, 5).reshape(6, 3, 16)
    found = statistic("entropy").compute(rows, mode, (0.4,) * 3, (0.3,) * 3)
    torch.testing.assert_close(found, bits.softmax(0))
