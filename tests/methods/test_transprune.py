"""TransPrune: the worked example, the invariances of its transition, its schedules and its refusals."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtc.core.stage import Decoder, ModelFacts, Need
from vtc.kernels import token_transition as transition
from vtc.methods import make_method

from support.oracles.views import plain_view

LLAMA = ModelFacts("llava", 24, 22, True, tuple(range(24)), 32)
ATTN_IN = [[1.0, 0.0]] * 4
ATTN_OUT = [[1.0, 0.0], [0.0, 1.0], [-0.5, 0.0], [0.5, 0.0]]
FFN_IN = [[0.0, 2.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]
FFN_OUT = [[0.0, 2.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
IGA = torch.tensor([0.05, 0.15])


def ttv(counted=None, direction="signed"):
    tensors = [torch.tensor([rows]) for rows in (ATTN_IN, ATTN_OUT, FFN_IN, FFN_OUT)]
    return (transition(*tensors[:2], counted, direction) + transition(*tensors[2:], counted, direction))[0]


def one_cut(t, a, **options):
    method = make_method("transprune", ratios=(0.5,), prune_layers=(7,), accumulate_layers=(7,), **options)
    (stage,) = method.stages(LLAMA)
    stats = dict(zip(stage.needs, [t, a], strict=False))
    return stage.select(plain_view(torch.zeros(len(t), 1), stage.keep_count, stats))


def test_worked_example():
    t = ttv()
    torch.testing.assert_close(t, torch.tensor([0.0826 + 0.1651, 0.4488, 0.4616, 0.0413 + 0.0825]), atol=2e-4, rtol=0)
    found = one_cut(t[1:3], IGA)
    torch.testing.assert_close(2 * found.scores, torch.tensor([0.7430, 1.2570]), atol=2e-4, rtol=0)
    assert found.keep.tolist() == [1]


def test_worked_example_by_the_formula_of_the_paper():
    image = torch.tensor([[False, True, True, False]])
    t = ttv(image, "abs")
    torch.testing.assert_close(t[1:3], torch.tensor([1.0659, 0.3680]), atol=2e-4, rtol=0)
    found = one_cut(t[1:3], IGA, combination="raw")
    torch.testing.assert_close(found.scores, torch.tensor([0.5580, 0.2590]), atol=2e-4, rtol=0)
    assert found.keep.tolist() == [0]


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.integers(0, 100))
def test_scaling_output_or_input(c, d, seed):
    u, y = torch.randn(2, 1, 7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    torch.testing.assert_close(transition(d * u, c * y), c / d * transition(u, y))
    torch.testing.assert_close(transition(u, u), torch.full((1, 7), 1 / 7, dtype=torch.float64))


def test_padding_neither_counts_nor_poisons():
    u, y = torch.randn(2, 1, 6, 4, generator=torch.Generator().manual_seed(0))
    u[:, :2] = y[:, :2] = 0.0
    counted = torch.tensor([[False, False, True, True, True, True]])
    torch.testing.assert_close(transition(u, y, counted)[:, 2:], transition(u[:, 2:], y[:, 2:]))


def test_long_half_precision_sequences_do_not_overflow():
    u = torch.ones(1, 30000, 2, dtype=torch.float16)
    y = torch.tensor([1.0, -1.0], dtype=torch.float16).expand_as(u)
    found = transition(u, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((1, 30000), 1 / 30000), rtol=1e-3, atol=0)


@given(st.lists(st.floats(1e-4, 1.0), min_size=2, max_size=40), st.integers(0, 999))
def test_scores_sum_to_one_and_exactly_the_budget_stays(values, seed):
    t = torch.tensor(values)
    a = torch.rand(len(t), generator=torch.Generator().manual_seed(seed)) + 1e-3
    found = one_cut(t, a)
    assert abs(float(found.scores.sum()) - 1) < 1e-4
    assert found.keep.tolist() == sorted(set(found.keep.tolist()))
    assert len(found.keep) == max(1, int(len(t) * 0.5))
    rest = torch.ones(len(t), dtype=torch.bool)
    rest[found.keep] = False
    assert not rest.any() or found.scores[found.keep].min() >= found.scores[rest].max()


def test_without_text_behind_the_image_transition_decides_alone():
    t = torch.tensor([0.1, 0.4, 0.2, 0.3])
    assert one_cut(t, torch.zeros(4)).keep.tolist() == one_cut(t, None, use_iga=False).keep.tolist() == [1, 3]


def test_default_schedule():
    stages = make_method("transprune").stages(LLAMA)
    assert [s.at for s in stages] == [Decoder(7), Decoder(9), Decoder(12)]
    assert [[n.layer for n in s.needs if n.stat == "transition"] for s in stages] == [
        [6],
        [6, 7, 8],
        list(range(6, 12)),
    ]
    assert [s.needs[-1] for s in stages] == [Need("decoder", p, "next_rows", "text") for p in (7, 9, 12)]
    assert {s.positions for s in stages} == {"renumber"} and {s.scope for s in stages} == {"row"}
    assert [make_method("transprune").count(576, s) for s in range(3)] == [504, 360, 72]
    assert [make_method("transprune", preset="low").count(576, s) for s in range(3)] == [360, 108, 36]


def test_without_accumulation_only_the_last_layer_counts():
    stages = make_method("transprune", accumulate=False, alpha=1.0).stages(LLAMA)
    assert [[n.layer for n in s.needs] for s in stages] == [[6], [8], [11]]


@given(st.floats(0.01, 1.0), st.sampled_from(["high", "low"]), st.integers(1, 3000))
def test_keep_is_the_last_share(keep, preset, n):
    method = make_method("transprune", preset=preset, keep=keep)
    counts = [method.count(n, s) for s in range(3)]
    assert counts[-1] == max(1, int(n * keep))
    assert n >= counts[0] >= counts[1] >= counts[2] >= 1


def test_counts_per_image_add_up():
    method = make_method("transprune", keep=10)
    assert method.count(300, 2, images=2) == 20
    assert method.count(5, 2) == 5 == method.count(5, 0)


@pytest.mark.parametrize(
    ("depth", "cuts", "sums"), [(32, [7, 9, 12], 6), (28, [7, 9, 12], 6), (4, [1, 2], 2), (6, [1, 2], 2)]
)
def test_depth(depth, cuts, sums):
    found, layers = make_method("transprune").layers(depth)
    assert list(found) == cuts and len(layers) == sums and found[cuts[-1]] == 2


def test_depth_can_be_scaled_on_purpose():
    assert list(make_method("transprune", scale_depth=True).layers(40)[0]) == [9, 11, 15]
    with pytest.raises(ValueError, match="a cut needs a layer behind it"):
        make_method("transprune", scale_depth=False).layers(12)


def test_json_round_trip():
    method = make_method("transprune", ratios=[0.5, 0.25, 0.1], keep=0.2)
    entry = json.loads(json.dumps(method.to_dict()))
    entry.pop("method")
    assert make_method("transprune", **entry) == method


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratios": (0.2, 0.5, 0.1)}, "do not grow"),
        ({"ratios": (0.5, 0.2)}, "one per share"),
        ({"prune_layers": (9, 7, 12)}, "growing"),
        ({"accumulate_layers": (8, 9)}, "before the first cut"),
        ({"alpha": 1.5}, "weight in"),
        ({"direction": "cos"}, "direction"),
        ({"keep": 0.0}, "keep"),
        ({"preset": "mid"}, "preset"),
        ({"alpha": math.nan}, "alpha=nan.*finite"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_method("transprune", **options)
