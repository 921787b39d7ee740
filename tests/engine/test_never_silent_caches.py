"""Caches filled under a patch and used elsewhere: the logits of going on inside, or one error; later masks count."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from transformers import DynamicCache, StaticCache

import vtc
from vtc.engine import cache as kv
from vtc.engine.seams import name_of

from support import oracle, tiny

METHODS = ["pool", "vtc-cls", "divprune", "visionzip", "fastv", "todre", "transprune"]


def name_of_cache(model):
    return name_of("cache", type(model).forward)


def step(model, inputs, cache):
    """Logits of one more token of text."""
    rows = len(inputs["input_ids"])
    mask = torch.cat([inputs["attention_mask"], torch.ones(rows, 1, dtype=torch.long)], 1)
    given = {}
    if hasattr(model.model, "rope_deltas"):  # by itself the model makes ids for all columns of a mask
        given["position_ids"] = (mask.sum(1, keepdim=True) - 1 + model.model.rope_deltas)[None].expand(3, -1, -1)
    ids = torch.full((rows, 1), 41)
    return model(input_ids=ids, attention_mask=mask, **{name_of_cache(model): cache}, **given).logits


@pytest.mark.parametrize("rows", ["one", "batch"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llava-clip", "qwen2_5_vl"])
def test_a_cache_goes_on_anywhere_or_says_why_not(tiny_model, name, method, rows):
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.batch(case) if rows == "batch" else tiny.alone(case, 0)
    with torch.no_grad():
        with vtc.patched(model, method, keep=0.3) as handle:
            cache = model(**inputs).past_key_values
            held = [kv.stored(layer) for layer in cache.layers]
            assert min(held) < inputs["input_ids"].shape[1]
            twins = [copy.deepcopy(cache), pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)]
            inside = step(model, inputs, cache)
            with handle.disabled():
                assert torch.allclose(step(model, inputs, twins.pop()), inside, atol=3e-5)
            assert torch.allclose(step(model, inputs, twins.pop()), inside, atol=3e-5)
        last = twins.pop()
        try:
            outside = step(model, inputs, last)
        except ValueError as error:
            assert "patched" in str(error)
            assert not all(layer.plain for layer in last.layers if isinstance(layer, kv.Shrunk))
        else:
            assert torch.allclose(outside, inside, atol=3e-5)


def test_a_patch_that_acts_elsewhere_says_that_it_cannot_go_on(tiny_model):
    model, inputs = tiny_model("llava-clip"), tiny.batch(tiny.CASES["llava-clip"])
    with torch.no_grad():
        with vtc.patched(model, "fastv", keep=0.3):
            cache = model(**inputs).past_key_values
            twin = copy.deepcopy(cache)
            inside = step(model, inputs, cache)
        with vtc.patched(model, "divprune", keep=0.5), pytest.raises(ValueError, match="the patch that filled it"):
            step(model, inputs, copy.deepcopy(twin))
        with vtc.patched(model, "fastv", keep=0.7):
            assert torch.allclose(step(model, inputs, twin), inside, atol=3e-5)


def test_a_saved_cache_goes_on(tiny_model):
    model, inputs = tiny_model("qwen2_5_vl"), tiny.batch(tiny.CASES["qwen2_5_vl"])
    with torch.no_grad(), vtc.patched(model, "fastv", keep=0.3):
        cache, file = model(**inputs).past_key_values, io.BytesIO()
        torch.save(cache, file)
        file.seek(0)
        again = torch.load(file, weights_only=False)
        assert torch.allclose(step(model, inputs, again), step(model, inputs, cache), atol=3e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("method", ["projector", "cut"])
def test_steps_honour_what_the_caller_hides_later(tiny_model, method, kind, attention):
    """Some columns of the prompt are masked only from the first decode step on."""
    model, inputs = tiny_model("llava-clip", attention), tiny.batch(tiny.CASES["llava-clip"])
    rows, length = inputs["input_ids"].shape
    config = model.get_decoder().config
    cache = DynamicCache(config=config) if kind == "dynamic" else StaticCache(config=config, max_cache_len=length + 4)
    probe = oracle.Norms(keep=0.4) if method == "projector" else oracle.Norms(before=False, cuts=((2, 0.5),))
    new = torch.tensor([[50, 60]] * rows)
    hidden = torch.zeros(rows, length + 2, dtype=torch.bool)
    hidden[:, length - 6 : length - 2] = True
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(new)], 1)
    masks = [mask[:, : length + 1], mask & ~hidden]
    given = {name_of_cache(model): cache}
    with torch.no_grad():
        with vtc.patched(model, probe) as handle:
            model(**inputs, **given)
            steps = zip(new.split(1, 1), masks, strict=True)
            found = [model(input_ids=ids, attention_mask=seen, **given).logits[:, 0] for ids, seen in steps]
            alive = oracle.alive_by_layer(inputs, handle.last, 4)
        alive = torch.cat([alive, torch.ones(4, rows, 2, dtype=torch.bool)], 2)
        full = {"input_ids": torch.cat([inputs["input_ids"], new], 1), "pixel_values": inputs["pixel_values"]}
        seen = torch.ones(rows, length + 2, length + 2, dtype=torch.bool).tril()
        seen[:, -1] &= ~hidden
        far = torch.zeros(seen[:, None].shape).masked_fill(~seen[:, None], -1e30)
        with oracle.masked(model, alive):
            want = model(**full, attention_mask=far, use_cache=False).logits[:, length:]
    assert (torch.stack(found, 1) - want).abs().max() < 3e-5


def test_a_static_cache_with_windows_longer_than_the_prompt(tiny_model):
    """Layers with a window hold the last columns only: ragged rows are counted from there."""
    from support import tiny_families

    case = tiny_families.ALL["gemma3"]
    model = tiny_model("gemma3")
    inputs = case.inputs([[3, "image", 50], [2, "image", 3, "image", 30]], [0, 1])
    with torch.no_grad(), vtc.patched(model, "divprune", keep=0.3):
        found = []
        for static in (False, True):
            config, length = model.get_decoder().config, inputs["input_ids"].shape[1]
            cache = StaticCache(config=config, max_cache_len=length + 5) if static else DynamicCache(config=config)
            model(**inputs, **{name_of_cache(model): cache})
            grown, logits = dict(inputs), []
            for _ in range(3):
                logits.append(step(model, grown, cache))
                grown["attention_mask"] = torch.nn.functional.pad(grown["attention_mask"], (0, 1), value=1)
            found.append(torch.cat(logits, 1))
    assert torch.allclose(found[0], found[1], atol=3e-5)
