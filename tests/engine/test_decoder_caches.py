"""Methods inside the language model with other caches and over several turns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import Cache, QuantizedCache
from transformers.cache_utils import QuantizedLayer

import vtc
from vtc.engine import cache as kv
from vtc.methods.fastv import FastV
from vtc.methods.transprune import TransPrune

from support import oracle, tiny
from support.inside import METHODS, renumbering
from support.turns import second_turn


class Exact(QuantizedLayer):
    """A quantised layer that loses nothing."""

    def _quantize(self, tensor, axis):
        return (tensor.clone(), None)

    def _dequantize(self, stored):
        return stored[0]


@pytest.mark.parametrize("method", ["fastv", "pyramiddrop", "transprune", "todre", "vflowopt"])
def test_quantized_layers_hold_and_count_what_was_kept(tiny_model, method):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.batch(case)
    with vtc.patched(model, METHODS[method]()) as handle:
        plain = oracle.generate(model, inputs, max_new_tokens=9)
        before = handle.last.kv_bytes
        cache = Cache(layers=[Exact(residual_length=3) for _ in range(4)])
        found = oracle.generate(model, inputs, max_new_tokens=9, past_key_values=cache)
        assert handle.last.kv_bytes == before
    assert torch.equal(plain.sequences, found.sequences)
    assert (torch.stack(plain.logits) - torch.stack(found.logits)).abs().max() < 3e-5
    assert kv.kv_bytes(cache) == kv.kv_bytes(plain.past_key_values)


def test_lossy_quantized_cache_keeps_the_first_logits(tiny_model):
    """Prefill attends to exact keys; later steps to rounded ones, in half the bytes or less."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.batch(case)
    with vtc.patched(model, TransPrune()) as handle:
        plain = oracle.generate(model, inputs)
        full = sum(handle.last.kv_bytes)
        found = oracle.generate(model, inputs, past_key_values=QuantizedCache("fp8", model.config))
        assert sum(handle.last.kv_bytes) < full / 2
    assert torch.equal(plain.logits[0], found.logits[0])
    assert found.past_key_values.get_seq_length() == plain.past_key_values.get_seq_length()


def test_reading_ahead_on_a_filled_quantized_cache_is_refused(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    with torch.no_grad(), vtc.patched(model, TransPrune()) as handle:
        cache = Cache(layers=[Exact() for _ in range(4)])
        model(**tiny.alone(case, 2), past_key_values=cache)
        more = tiny.alone(case, 0)
        more.pop("attention_mask")
        with pytest.raises(ValueError, match="quantised cache with an earlier turn"):
            model(**more, past_key_values=cache)
        assert handle.last is None
        model(**tiny.alone(case, 0))
        assert handle.last is not None


@pytest.mark.parametrize("method", ["fastv", "fastv renumbered", "pyramiddrop", "transprune", "todre", "vflowopt"])
@pytest.mark.parametrize("name", ["llava-clip", "llava-pixtral", "qwen2_5_vl"])
def test_second_turn_with_an_image_equals_masking(tiny_model, name, method):
    """Both turns prune; positions go on from what each layer has closed up."""
    model, case, made = tiny_model(name), tiny.CASES[name], METHODS[method]()
    first, second = case.samples[0], [4, case.samples[1][1], 3]
    start, more, both = case.inputs([first], [0]), case.inputs([second], [1]), case.inputs([first + second], [0])
    turn = {
        k: torch.cat([start[k], more[k][:, 1:]], 1)
        for k in ("input_ids", "attention_mask", "mm_token_type_ids")
        if k in start
    }
    with torch.no_grad(), vtc.patched(model, made) as handle:
        opened = model.generate(**start, **tiny.GENERATE, return_dict_in_generate=True)
        cache = opened.past_key_values
        images = list(handle.last.images)
        cache.crop(-(cache.get_seq_length() - start["input_ids"].shape[1]))
        found = second_turn(model, turn, more, cache, start["input_ids"].shape[1])
        images += handle.last.images
        steps, answers = [], []
        token = torch.tensor([[30]])
        # a manual loop has to tell M-RoPE models where the second turn ended: only the prompt is compared there
        for _ in range(0 if name.startswith("qwen") else 3):
            steps.append(token)
            ids = torch.ones(1, turn["input_ids"].shape[1] + len(steps), dtype=torch.long)
            logits = model(input_ids=token, attention_mask=ids, past_key_values=cache).logits[:, -1]
            answers.append(logits)
            token = token + 5
    whole = {**both, **turn, **{k: torch.cat([start[k], more[k]]) for k in start if k not in turn}}
    new = torch.cat([*steps, token], 1)
    expected = oracle.oracle_logits(model, whole, SimpleNamespace(images=images), new, renumbering(name, made))
    assert (found[:, -1] - expected[:, 0]).abs().max() < 3e-5
    if answers:
        assert (torch.stack(answers, 1) - expected[:, 1:]).abs().max() < 3e-5


def test_one_prompt_lookup_step_reads_the_last_prompt_token(tiny_model):
    """Draft tokens behind the prompt are no query of the cut."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 1)
    for method in (FastV(keep=0.3), TransPrune(), METHODS["todre by sample"]()):
        with vtc.patched(model, method) as handle:
            greedy = model.generate(**inputs, **tiny.GENERATE)
            kept = [i.kept for i in handle.last.images]
            looked = model.generate(**inputs, **tiny.GENERATE, prompt_lookup_num_tokens=2)
            assert all(torch.equal(a, i.kept) for a, i in zip(kept, handle.last.images, strict=True))
        assert torch.equal(greedy, looked)
