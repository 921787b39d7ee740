"""However a model is compiled, it prunes as the eager one does: same logits, same cache, same record."""

from __future__ import annotations

import contextlib

import pytest
import torch
from transformers import StaticCache

import vtc
from vtc.engine import cache as kv
from vtc.engine.seams import name_of

from support import oracle, tiny

METHODS = ["vtc-cls", "fastv", "transprune"]
OPTIONS = dict(backend="eager", dynamic=False)


def whole(model):
    return torch.compile(model, **OPTIONS), contextlib.nullcontext()


def forward(model):
    own = "forward" in model.__dict__
    before = model.forward
    model.forward = torch.compile(before, **OPTIONS)
    return model, put_back(model.__dict__, "forward", before if own else None)


def in_place(model):
    model.compile(**OPTIONS)
    return model, put_back(model.__dict__, "_compiled_call_impl", None)


def decoder(model):
    model.get_decoder().compile(**OPTIONS)
    return model, put_back(model.get_decoder().__dict__, "_compiled_call_impl", None)


def layers(model):
    stack = contextlib.ExitStack()
    for layer in model.get_decoder().layers:
        layer.compile(**OPTIONS)
        stack.enter_context(put_back(layer.__dict__, "_compiled_call_impl", None))
    return model, stack


def tower(model):
    base = model.model
    found = base.visual if hasattr(base, "visual") else base.vision_tower
    found.compile(**OPTIONS)
    return model, put_back(found.__dict__, "_compiled_call_impl", None)


@contextlib.contextmanager
def put_back(attributes, name, value):
    try:
        yield
    finally:
        attributes.pop(name, None)
        if value is not None:
            attributes[name] = value


WAYS = [whole, forward, in_place, decoder, layers, tower]


COMBINATIONS = [
    *(("llava-clip", method, way, "patched") for method in METHODS for way in WAYS),
    *(("llava-clip", "fastv", way, "compiled") for way in WAYS if way is not forward),
    *(("qwen2_5_vl", "fastv", way, "patched") for way in (whole, decoder, tower)),
]


@pytest.mark.parametrize(
    ("name", "method", "way", "first"), COMBINATIONS, ids=lambda v: v if isinstance(v, str) else v.__name__
)
def test_a_compiled_model_prunes(tiny_model, name, method, way, first):
    torch._dynamo.reset()
    model, inputs = tiny_model(name), tiny.alone(tiny.CASES[name], 0)
    with torch.no_grad():
        with vtc.patched(model, method, keep=0.25) as handle:
            want = model(**inputs)
            kept = [i.kept for i in handle.last.images]
            assert handle.last.after < handle.last.before
        plain = model(**inputs).logits
        runs, context = way(model) if first == "compiled" else (model, contextlib.nullcontext())
        with context, vtc.patched(model, method, keep=0.25) as handle:
            later = contextlib.nullcontext()
            if first == "patched":
                runs, later = way(model)
            with later:
                found = runs(**inputs)
                assert handle.last is not None
                assert all(torch.equal(a, i.kept) for a, i in zip(kept, handle.last.images, strict=True))
    assert torch.allclose(found.logits, want.logits, atol=3e-5)
    assert not torch.allclose(found.logits[:, -1], plain[:, -1], atol=1e-3)
    held = [[kv.stored(layer) for layer in cached(out).layers] for out in (found, want)]
    assert held[0] == held[1]


def cached(output):
    return next(v for v in output.values() if hasattr(v, "layers"))


@pytest.mark.parametrize("method", METHODS)
def test_compiled_steps_by_hand_honour_the_mask(tiny_model, method):
    """Steps in a compiled graph know no running forward: what the caller hides later counts in every layer."""
    torch._dynamo.reset()
    model, inputs = tiny_model("llava-clip"), tiny.batch(tiny.CASES["llava-clip"])
    rows, length = inputs["input_ids"].shape
    mask = torch.cat([inputs["attention_mask"], torch.ones(rows, 1, dtype=torch.long)], 1)
    mask[:, -5:-2] = 0
    ids, found = torch.full((rows, 1), 50), []
    with torch.no_grad(), vtc.patched(model, method, keep=0.3):
        for compiled in (False, True):
            cache = StaticCache(config=model.get_decoder().config, max_cache_len=length + 2)
            given = {name_of("cache", type(model).forward): cache}
            model(**inputs, **given)
            run = torch.compile(model, backend="eager") if compiled else model
            found.append(run(input_ids=ids, attention_mask=mask, **given).logits)
    assert torch.allclose(*found, atol=3e-5)


def test_generate_with_a_compiled_forward(tiny_model):
    torch._dynamo.reset()
    model, inputs = tiny_model("llava-clip"), tiny.batch(tiny.CASES["llava-clip"])
    with vtc.patched(model, "fastv", keep=0.3):
        want = oracle.generate(model, inputs, max_new_tokens=2).sequences
        _, context = in_place(model)
        with context:
            assert torch.equal(oracle.generate(model, inputs, max_new_tokens=2).sequences, want)
