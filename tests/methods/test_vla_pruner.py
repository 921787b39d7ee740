"""VLA-Pruner: the estimate, the choice and the properties they promise, on plain tensors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vtc.core.stage import ModelFacts
from vtc.methods import make_method
from vtc.methods.vla_pruner import INPUTS, SLOT, estimate, spread, union

from support.oracles.views import plain_view

FACTS = ModelFacts("test", decoder_layers=32)
HISTORY = torch.tensor(
    [[0.60, 0.05, 0.10, 0.15, 0.05, 0.05], [0.10, 0.50, 0.15, 0.15, 0.05, 0.05], [0.05, 0.20, 0.10, 0.50, 0.10, 0.05]]
)
CURRENT = torch.tensor([0.05, 0.10, 0.12, 0.30, 0.27, 0.16])
ROWS = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]])


def episode(method, scores, features, actions, slot=None, reset=()):
    """Kept tokens per call, recording what the engine would: attention of kept tokens, 0 elsewhere."""
    (stage,), feedback = method.stages(FACTS), method.feedback(FACTS)
    slot, kept = {} if slot is None else slot, []
    for t in range(len(scores)):
        if t in reset:
            slot.clear()
        view = plain_view(
            torch.zeros(len(scores[t]), 1), stage.keep_count, {stage.needs[0]: scores[t], INPUTS: features[t]}
        )
        view.state = slot
        chosen = stage.select(view).keep
        kept.append(torch.zeros(len(scores[t]), dtype=torch.bool).index_fill(0, chosen, True))
        assert chosen.tolist() == sorted(set(chosen.tolist()))
        feedback.take(slot, actions[t] * kept[-1])
    return kept


def data(seed, calls, n, width=6):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(calls, n, generator=generator), torch.randn(calls, n, width, generator=generator)] + [
        torch.rand(calls, n, generator=generator)
    ]


def test_the_worked_example_of_the_paper_order():
    guide = estimate(list(HISTORY), 0.8)
    weights = 0.8 + 0.64 + 0.512
    expected = torch.tensor([0.4112, 0.5056, 0.2272, 0.5728, 0.1376, 0.0976])
    torch.testing.assert_close(guide * weights, expected)
    assert union(CURRENT, guide, 2).tolist() == [1, 3, 4]
    assert make_method("vla-pruner", keep=1 / 3).choose(CURRENT, guide, ROWS, 2).tolist() == [1, 4]
    assert spread(ROWS[[1, 3, 4]], 2).tolist() == [2, 0]


def test_the_worked_example_of_the_code_order():
    guide = estimate(list(HISTORY), 0.8, "code")
    expected = torch.tensor([0.2918, 0.2369, 0.1164, 0.2418, 0.0631, 0.05])
    torch.testing.assert_close(guide, expected, rtol=0, atol=5e-5)
    assert union(CURRENT, guide, 2).tolist() == [0, 3, 4]
    method = make_method("vla-pruner", keep=1 / 3, decay_order="code")
    assert method.choose(CURRENT, guide, ROWS, 2).tolist() == [0, 4]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40), st.floats(0.05, 1.0))
def test_choices_are_exact_and_among_the_candidates(seed, n, keep):
    current, features, guide = (x[0] for x in data(seed, 1, n))
    method = make_method("vla-pruner", keep=keep)
    k = method.keep_count(n)
    kept, candidates = method.choose(current, guide, features, k), union(current, guide, k)
    assert len(kept) == k == max(1, round(n * keep))
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert set(kept.tolist()) <= set(candidates.tolist())
    scale = torch.rand(n, 1, generator=torch.Generator().manual_seed(seed)) + 0.5
    assert method.choose(current, guide, features * 2.0 ** (scale * 4).round(), k).tolist() == kept.tolist()
    assert method.choose(current, 3 * current, features, k).tolist() == union(current, current, k).tolist()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["paper", "code"]))
def test_after_warm_up_actions_bring_back_only_what_was_kept(seed, order):
    scores, features, actions = data(seed, 8, 20)
    method = make_method("vla-pruner", keep=0.25, decay_order=order)
    kept = episode(method, scores, features, actions)
    assert all(bool(k.all()) for k in kept[:3])
    for t in range(3, 8):
        assert int(kept[t].sum()) == 5
        seen = [actions[i] * kept[i] for i in range(t - 3, t)]
        best = estimate(seen, 0.8, order).sort(descending=True, stable=True).indices[:5]
        known = torch.stack(kept[t - 3 : t]).any(0)
        chosen = set(kept[t].nonzero()[:, 0].tolist())
        read = set(scores[t].sort(descending=True, stable=True).indices[:5].tolist())
        assert bool(known[best].all()) or int(known.sum()) < 5
        assert chosen <= set(best.tolist()) | read


def test_spread_picks_duplicates_once_and_takes_zero_rows():
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    order = spread(rows, 4)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert order.tolist() == [2, 0, 1, 3]


def test_warm_up_by_the_prompt_alone():
    scores, features, actions = data(3, 4, 12)
    kept = episode(make_method("vla-pruner", keep=0.25, warmup="semantic"), scores, features, actions)
    for t in range(3):
        assert kept[t].nonzero()[:, 0].tolist() == scores[t].topk(3).indices.sort().values.tolist()


def test_refreshing_calls_keep_everything():
    kept = episode(make_method("vla-pruner", keep=0.25, window=2, refresh_every=3), *data(5, 10, 12))
    assert [bool(k.all()) for k in kept] == [True, True, False, False, True, False, False, True, False, False]


def test_a_reset_starts_anew():
    scores, features, actions = data(7, 10, 12)
    method = make_method("vla-pruner", keep=0.25)
    late = episode(method, scores, features, actions, reset=(5,))[5:]
    fresh = episode(method, scores[5:], features[5:], actions[5:])
    assert all(torch.equal(a, b) for a, b in zip(late, fresh, strict=True))


def test_without_time_it_is_a_plain_ranking():
    method = make_method("vla-pruner", keep=0.25, temporal=False)
    (stage,) = method.stages(FACTS)
    assert method.feedback(FACTS) is None
    view = plain_view(torch.zeros(6, 1), stage.keep_count, {stage.needs[0]: CURRENT, INPUTS: ROWS})
    assert stage.select(view).keep.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("options", "facts", "layers"),
    [
        ({}, "generated", (15,)),
        ({}, "expert", tuple(range(16, 32))),
        ({}, "placeholders", tuple(range(16, 32))),
        ({"action_layers": "upper_half"}, "generated", tuple(range(16, 32))),
        ({"action_layers": "middle"}, "expert", (15,)),
        ({"action_layers": [30, 2]}, "generated", (30, 2)),
    ],
)
def test_action_layers(options, facts, layers):
    found = make_method("vla-pruner", **options).feedback(ModelFacts("test", decoder_layers=32, actions=facts))
    assert found.layers == layers


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"keep": 0.0}, ValueError, "keep"),
        ({"window": 0}, ValueError, "window=0"),
        ({"window": 1.5}, TypeError, "window"),
        ({"gamma": 0.0}, ValueError, "gamma"),
        ({"decay_order": "newest"}, ValueError, "'paper', 'code'"),
        ({"warmup": "none"}, ValueError, "'full', 'semantic'"),
        ({"semantic": "all"}, ValueError, "'prefill'"),
        ({"refresh_every": 1}, ValueError, "refresh_every=1"),
        ({"action_layers": "lower_half"}, ValueError, "'upper_half'"),
    ],
)
def test_wrong_options(options, error, text):
    with pytest.raises(error, match=text):
        make_method("vla-pruner", **options)


def test_action_layers_outside_of_the_decoder():
    with pytest.raises(ValueError, match=r"layers 0 \.\. 31"):
        make_method("vla-pruner", action_layers=[32]).feedback(FACTS)


def test_a_slot_holds_the_last_calls_only():
    slot = {}
    episode(make_method("vla-pruner", keep=0.5, window=2), *data(1, 5, 4), slot=slot)
    assert len(slot[SLOT]["history"]) == 2 and slot[SLOT]["calls"] == 5
