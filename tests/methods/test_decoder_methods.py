"""Methods inside the language model against full-length masked forwards, on every kind of decoder."""

from __future__ import annotations

import copy

import pytest
import torch

import vtc
from vtc.methods.divprune import DivPrune
from vtc.methods.fastv import FastV
from vtc.methods.pyramiddrop import PyramidDrop
from vtc.methods.todre import ToDRE
from vtc.methods.transprune import TransPrune
from vtc.methods.vflowopt import VFlowOpt

from support import oracle, tiny
from support.inside import METHODS, renumbering

CASES = list(tiny.CASES)


def compare(model, case, methods, renumber, steps=17, tolerance=1e-5, **options):
    inputs = tiny.batch(case)
    with vtc.patched(model, methods) as handle:
        out = oracle.generate(model, inputs, max_new_tokens=steps, **options)
        record = handle.last
    assert record.after < record.before
    expected = oracle.oracle_logits(model, inputs, record, oracle.new_tokens(out, inputs), renumber)
    assert (torch.stack(out.logits, 1) - expected).abs().max() < tolerance
    return record


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_prefill_and_sixteen_steps_equal_masking(tiny_model, name, method, attention):
    made = METHODS[method]()
    compare(tiny_model(name, attention), tiny.CASES[name], made, renumbering(name, made))


@pytest.mark.parametrize("name", ["llava-clip", "qwen2_5_vl"])
def test_methods_in_a_row(tiny_model, name):
    """Half go before the language model; the next method's shares refer to what is left."""
    model, case = tiny_model(name), tiny.CASES[name]
    record = compare(model, case, [DivPrune(keep=0.5, positions="keep"), FastV(layer=2, keep=0.5)], False)
    assert [len(k) for _, k in record.images[0].cuts] == [len(record.images[0].entered), record.images[0].before // 4]
    methods = [DivPrune(keep=0.5), TransPrune(keep=0.25)]
    compare(model, case, methods, not name.startswith("qwen"))


@pytest.mark.parametrize("name", CASES)
def test_keep_one_is_bit_identical(tiny_model, name):
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.batch(case)
    plain = oracle.generate(model, inputs)
    for method in (FastV, PyramidDrop, TransPrune, ToDRE, VFlowOpt):
        with vtc.patched(model, method(keep=1.0)) as handle:
            again = oracle.generate(model, inputs)
            assert handle.last.after == handle.last.before
        assert torch.equal(again.sequences, plain.sequences)
        assert all(torch.equal(a, b) for a, b in zip(again.logits, plain.logits, strict=True))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llava-clip", "llava-pixtral", "qwen2_5_vl-video"])
def test_batch_equals_each_sample_alone(tiny_model, name, method, side):
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.batch(case, side)
    with vtc.patched(model, METHODS[method]()) as handle, torch.no_grad():
        together = model(**inputs).logits
        kept = {(i.row, i.image): i.kept for i in handle.last.images}
        for row in range(len(case.samples)):
            handle.reset()
            solo = model(**tiny.alone(case, row)).logits[0, -1]
            assert (solo - together[row, inputs["attention_mask"][row].bool()][-1]).abs().max() < 3e-5
            for image in handle.last.images if handle.last else ():
                assert torch.equal(image.kept, kept[row, image.image])


def test_samples_of_a_batch_may_lose_all_visual_tokens_or_none(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.batch(case)
    alphas = {}

    class Watched(ToDRE):
        def relevance(self, view, need):
            alphas[view.row] = float(view.stats[need][0])
            return super().relevance(view, need)

    with torch.no_grad():
        with vtc.patched(model, Watched(keep=0.5)):
            model(**inputs)
        between = sum(alphas.values()) / 2
        with vtc.patched(model, ToDRE(keep=0.5, tau=between)) as handle:
            model(**inputs)
    left = {row: sum(i.after for i in handle.last.images if i.row == row) for row in (0, 1)}
    assert alphas[0] != alphas[1]
    assert {row: n > 0 for row, n in left.items()} == {row: a >= between for row, a in alphas.items()}
    layers = handle.report().to_dict()["layers"]
    assert [entry["first"] for entry in layers] == [0, 3]


@pytest.mark.parametrize("method", ["pyramiddrop", "transprune", "todre", "vflowopt"])
@pytest.mark.parametrize("name", ["llava-clip", "qwen2_5_vl"])
def test_generation_modes(tiny_model, name, method):
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.batch(case)
    with vtc.patched(model, METHODS[method]()):
        dynamic = oracle.generate(model, inputs)
        static = oracle.generate(model, inputs, cache_implementation="static")
        assert torch.equal(dynamic.sequences, static.sequences)
        assert (torch.stack(dynamic.logits) - torch.stack(static.logits)).abs().max() < 3e-5
        one = tiny.alone(case, 1)
        looked = model.generate(**one, **tiny.GENERATE, prompt_lookup_num_tokens=3)
        assert torch.equal(model.generate(**one, **tiny.GENERATE), looked)
        for mode in (dict(num_beams=3, num_return_sequences=2), dict(do_sample=True, num_return_sequences=2)):
            torch.manual_seed(1)
            both = model.generate(**inputs, **{**tiny.GENERATE, **mode})
            torch.manual_seed(1)
            assert torch.equal(model.generate(**inputs, **{**tiny.GENERATE, **mode}), both)
            if "num_beams" in mode:
                solo = model.generate(**one, **{**tiny.GENERATE, **mode})
                assert torch.equal(oracle.new_tokens_of(solo, one), oracle.new_tokens_of(both, inputs)[2:4])


def test_deepcopy_rebinds_the_stages():
    case = tiny.CASES["llava-clip"]
    model, inputs = case.build(), tiny.alone(case, 1)
    handle = vtc.patch(model, TransPrune())
    twin = copy.deepcopy(model)
    twin.__dict__["_vtc_handle"].keep = 1.0
    vtc.unpatch(model)
    plain = model.generate(**inputs, **tiny.GENERATE)
    assert torch.equal(twin.generate(**inputs, **tiny.GENERATE), plain)
    assert handle.keep == 0.125


def test_text_only_prompts_are_untouched(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 2)
    with torch.no_grad():
        plain = model(**inputs).logits
        for make in METHODS.values():
            with vtc.patched(model, make()) as handle:
                assert torch.equal(model(**inputs).logits, plain)
                assert handle.last is None
