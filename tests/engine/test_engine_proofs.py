"""Proof obligations of the engine: identity, masking oracle, batches, caches, backends; every place a stage can act."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import GenerationMixin

import vtc
from vtc.methods.vtc_cls import VTCCLS

from support import oracle, tiny
from support.turns import second_turn

# older versions repeat pixels image by image for beams, which mixes up the images of a prompt: patched or not
ENCODES_ONCE = hasattr(GenerationMixin, "_prepare_multimodal_encoder_kwargs_for_generation")
CASES = list(tiny.CASES)
ONE_D = [name for name in CASES if not name.startswith("qwen")]
SCHEDULES = {
    "projector": lambda: oracle.Norms(keep=0.4),
    "fastv-like cut at layer 2": lambda: oracle.LastQuery(keep=0.5),
    "three cuts": lambda: oracle.Norms(before=False, cuts=((1, 0.6), (2, 0.5), (3, 0.5))),
    "projector and two cuts": lambda: oracle.Norms(keep=0.6, cuts=((1, 0.5), (3, 0.5)), scope="row"),
    "text rows": lambda: oracle.LastQuery(keep=0.5, rows="text", layers=(1, 3)),
}
RENUMBERED = {
    "projector": lambda: oracle.Norms(keep=0.4, positions="renumber"),
    "cuts": lambda: oracle.Norms(before=False, cuts=((1, 0.5), (3, 0.5)), scope="row", positions="renumber"),
    "both": lambda: oracle.Norms(keep=0.6, cuts=((1, 0.5), (3, 0.5)), scope="row", positions="renumber"),
}


def compare(model, case, method, renumber=False, steps=17, tolerance=1e-5):
    inputs = tiny.batch(case)
    with vtc.patched(model, method) as handle:
        out = oracle.generate(model, inputs, max_new_tokens=steps)
        record = handle.last
    assert record.after < record.before
    new = oracle.new_tokens(out, inputs)
    expected = oracle.oracle_logits(model, inputs, record, new, renumber)
    got = torch.stack(out.logits, 1)
    assert (got - expected).abs().max() < tolerance
    return out


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("name", CASES)
def test_dropping_equals_masking(tiny_model, name, schedule, attention):
    """Prefill and 16 cached decode steps against full-length forwards with the dropped keys masked, layer by layer."""
    compare(tiny_model(name, attention), tiny.CASES[name], SCHEDULES[schedule]())


@pytest.mark.parametrize("schedule", list(RENUMBERED))
@pytest.mark.parametrize("name", ONE_D)
def test_renumbered_positions_equal_masking_with_those_positions(tiny_model, name, schedule):
    compare(tiny_model(name), tiny.CASES[name], RENUMBERED[schedule](), renumber=True)


def test_dropping_equals_masking_in_double_precision():
    for name in ("llava-clip", "qwen2_5_vl-video"):
        case = tiny.CASES[name]
        model = case.build().double()
        inputs = oracle.to_double(tiny.batch(case))
        with vtc.patched(model, SCHEDULES["projector and two cuts"]()) as handle:
            out = oracle.generate(model, inputs, max_new_tokens=5)
        new = oracle.new_tokens(out, inputs)
        expected = oracle.oracle_logits(model, inputs, handle.last, new)
        # norms and rotary tables of the decoders are computed in fp32 whatever the dtype
        assert (torch.stack(out.logits, 1) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CASES)
def test_keep_one_is_bit_identical(tiny_model, name, attention):
    model, case = tiny_model(name, attention), tiny.CASES[name]
    inputs = tiny.batch(case)
    with torch.no_grad():
        logits = model(**inputs).logits
        tokens = oracle.generate(model, inputs)
        beams = model.generate(**inputs, **tiny.GENERATE, num_beams=3)
        for method in [VTCCLS(keep=1.0), [oracle.Norms(keep=1.0), oracle.Norms(before=False, cuts=((2, 1.0),))]]:
            with vtc.patched(model, method):
                assert torch.equal(model(**inputs).logits, logits)
                again = oracle.generate(model, inputs)
                assert torch.equal(again.sequences, tokens.sequences)
                assert all(torch.equal(a, b) for a, b in zip(again.logits, tokens.logits, strict=True))
                assert not ENCODES_ONCE or torch.equal(model.generate(**inputs, **tiny.GENERATE, num_beams=3), beams)
        assert torch.equal(model(**inputs).logits, logits)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", CASES)
def test_batch_equals_each_sample_alone(tiny_model, name, side):
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.batch(case, side)
    methods = [VTCCLS(keep=0.4), oracle.Norms(keep=0.6, cuts=((1, 0.5), (3, 0.5)), scope="row")]
    for method in methods:
        with vtc.patched(model, method), torch.no_grad():
            together = model(**inputs).logits
            for i in range(len(case.samples)):
                one = tiny.alone(case, i)
                real = inputs["attention_mask"][i].bool()
                assert (model(**one).logits[0, -4:] - together[i, real][-4:]).abs().max() < 3e-5
                if side == "left":
                    solo = oracle.generate(model, one)
                    both = oracle.generate(model, inputs)
                    assert torch.equal(oracle.new_tokens(solo, one)[0], oracle.new_tokens(both, inputs)[i])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", CASES)
def test_cached_equals_uncached_in_every_generation_mode(tiny_model, name, attention):
    model, case = tiny_model(name, attention), tiny.CASES[name]
    inputs = tiny.batch(case)
    modes = [{}]
    if ENCODES_ONCE and not transformers.__version__.startswith("5.18."):  # whose own uncached beams are others
        modes += [dict(num_beams=3, num_return_sequences=2), dict(do_sample=True, top_k=10, num_return_sequences=2)]
    # the last prompt token moves in uncached steps, so only methods that do not read it can be compared this way
    method = oracle.Norms(keep=0.6, cuts=((2, 0.5),))
    with vtc.patched(model, method):
        for mode in modes:
            outs = []
            for cache in (True, False):
                torch.manual_seed(3)
                outs.append(model.generate(**inputs, **{**tiny.GENERATE, **mode}, use_cache=cache))
            assert torch.equal(*outs), mode


@pytest.mark.parametrize("name", CASES)
def test_static_cache_equals_dynamic(tiny_model, name):
    model, case = tiny_model(name), tiny.CASES[name]
    for inputs in (tiny.batch(case), tiny.alone(case, 0)):
        for schedule in SCHEDULES.values():
            with vtc.patched(model, schedule()):
                dynamic = oracle.generate(model, inputs)
                static = oracle.generate(model, inputs, cache_implementation="static")
            assert torch.equal(dynamic.sequences, static.sequences)
            for a, b in zip(dynamic.logits, static.logits, strict=True):
                assert (a - b).abs().max() < 3e-5


@pytest.mark.parametrize("name", ["llava-clip", "llava-pixtral", "qwen2_5_vl"])
def test_two_turns_on_one_cache(tiny_model, name):
    """The second turn, with one more image, equals a single forward over both turns with the same tokens dropped."""
    model, case = tiny_model(name), tiny.CASES[name]
    first, second = case.samples[0], [4, case.samples[1][1], 3]
    with torch.no_grad(), vtc.patched(model, oracle.Norms(keep=0.5, cuts=((2, 0.5),))):
        start = case.inputs([first], [0])
        more = case.inputs([second], [1])
        both = case.inputs([first + second], [0])
        turn = {
            k: torch.cat([start[k], more[k][:, 1:]], 1)
            for k in ("input_ids", "attention_mask", "mm_token_type_ids")
            if k in start
        }
        whole = {**both, **turn, **{k: torch.cat([start[k], more[k]]) for k in start if k not in turn}}
        expected = model(**whole).logits[:, -2:]
        opened = model.generate(**start, **tiny.GENERATE, return_dict_in_generate=True)
        cache = opened.past_key_values
        cache.crop(-(cache.get_seq_length() - start["input_ids"].shape[1]))
        continued = second_turn(model, turn, more, cache, start["input_ids"].shape[1])
        assert (continued - expected).abs().max() < 3e-5
