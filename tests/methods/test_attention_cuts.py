"""FastV and PyramidDrop: schedules, choices, refusals, and the attention rows they read."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vtc
from vtc.core.stage import Decoder, ModelFacts, Need
from vtc.methods import make_method
from vtc.methods.fastv import FastV
from vtc.methods.pyramiddrop import PyramidDrop

from support import oracle, tiny
from support.oracles.views import plain_view

LLAMA = ModelFacts("llava", 24, 22, True, tuple(range(24)), 32)


def choose(stage, scores, total=None):
    view = plain_view(torch.zeros(len(scores), 1), stage.keep_count, {stage.needs[0]: scores})
    return stage.select(view).keep.tolist()


def test_fastv_keeps_the_most_attended_half():
    (stage,) = FastV().stages(LLAMA)
    assert stage.at == Decoder(2) and stage.needs == (Need("decoder", 1, "query_rows", "last"),)
    assert choose(stage, torch.tensor([0.1, 0.4, 0.2, 0.4, 0.0, 0.3])) == [1, 3, 5]
    assert choose(stage, torch.tensor([0.5, 0.5, 0.5, 0.5])) == [0, 1]


def test_pyramiddrop_schedule_of_the_paper():
    stages = PyramidDrop().stages(LLAMA)
    assert [s.at.layer for s in stages] == [8, 16, 24]
    assert [s.needs[0] for s in stages] == [Need("decoder", k, "next_rows", "last") for k in (8, 16, 24)]
    assert [PyramidDrop().count(576, s) for s in range(3)] == [288, 144, 72]
    assert [PyramidDrop().count(577, s) for s in range(3)] == [288, 144, 72]


@given(st.floats(0.001, 1.0), st.integers(1, 3000), st.integers(1, 5))
def test_pyramiddrop_counts_fall_to_keep(keep, n, cuts):
    method = PyramidDrop(keep=keep, cuts=cuts)
    counts = [method.count(n, s) for s in range(cuts)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == max(1, int(n * keep))


@given(st.integers(2, 80), st.integers(1, 6))
def test_pyramiddrop_cuts_lie_inside_the_decoder(depth, cuts):
    if depth <= cuts:
        with pytest.raises(ValueError, match="layers"):
            PyramidDrop(cuts=cuts).layers(depth)
        return
    layers = PyramidDrop(cuts=cuts).layers(depth)
    assert layers == sorted(set(layers)) and 1 <= layers[0] and layers[-1] < depth


def attention_rows_of(model, inputs, layer):
    """Last prompt token's attention in one layer, head mean, by transformers' eager attention."""
    with torch.no_grad():
        return model(**inputs, output_attentions=True).attentions[layer][0, :, -1].mean(0)


@pytest.mark.parametrize("name", ["llava-clip", "llava-qwen3", "llava-pixtral", "qwen2_5_vl"])
def test_rows_are_those_of_eager_attention(tiny_model, name):
    """The layer read afterwards, and the layer read before it runs, with the user's kernel in place."""
    case = tiny.CASES[name]
    inputs = tiny.alone(case, 0)
    eager, sdpa = tiny_model(name, "eager"), tiny_model(name)
    for method, layer in ((FastV(keep=0.5), 1), (PyramidDrop(cuts=1), 2)):
        with torch.no_grad(), vtc.patched(sdpa, method) as handle:
            sdpa(**inputs)
            log = handle.last.images[0]
        columns = oracle.visual_columns(inputs, handle.last)[0][1]
        expected = attention_rows_of(eager, inputs, layer)[columns]
        torch.testing.assert_close(log.scores, expected, atol=1e-6, rtol=1e-4)
        assert (
            log.kept.tolist() == expected.sort(descending=True, stable=True).indices[: log.after].sort().values.tolist()
        )


def test_reading_ahead_runs_no_kernel_twice_and_fills_no_cache(tiny_model):
    """Each layer's MLP runs once, its cache holds each token once."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs, runs = tiny.alone(case, 0), []
    hooks = [layer.mlp.register_forward_hook(lambda *args: runs.append(1)) for layer in model.get_decoder().layers]
    try:
        with torch.no_grad(), vtc.patched(model, PyramidDrop()):
            cache = model(**inputs).past_key_values
    finally:
        for hook in hooks:
            hook.remove()
    text = inputs["input_ids"].shape[1] - 36
    assert len(runs) == 4
    assert [layer.keys.shape[2] for layer in cache.layers] == [text + n for n in (36, 18, 9, 4)]


def test_nothing_is_decided_in_decode(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    calls = []

    class Counted(PyramidDrop):
        def select(self, view, number, need):
            calls.append(number)
            return super().select(view, number, need)

    with vtc.patched(model, Counted()):
        model.generate(**tiny.alone(case, 0), **tiny.GENERATE)
    assert calls == [0, 1, 2]


def test_layers_without_the_expected_modules_are_refused():
    model = tiny.CASES["llava-clip"].build()
    layer = model.get_decoder().layers[0]
    layer.feed_forward = layer.mlp
    del layer._modules["mlp"]
    with pytest.raises(ValueError, match="Decoder layer 0 .* has no 'mlp'"):
        vtc.patch(model, "transprune")
    assert "_vtc_handle" not in model.__dict__


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("fastv", {"layer": 0}, ValueError, "layer=0.*one must run"),
        ("fastv", {"layer": 2.0}, TypeError, "layer=2.0.*whole number"),
        ("fastv", {"scope": "frame"}, ValueError, "scope"),
        ("pyramiddrop", {"cuts": 0}, ValueError, "cuts"),
        ("pyramiddrop", {"positions": "compact"}, ValueError, "positions"),
    ],
)
def test_bad_options_are_refused(name, options, error, message):
    with pytest.raises(error, match=message):
        make_method(name, **options)


def test_a_cut_behind_the_last_layer_is_refused(tiny_model):
    with pytest.raises(ValueError, match="the decoder has 4 layers"):
        vtc.patch(tiny_model("llava-clip"), "fastv", layer=4)
