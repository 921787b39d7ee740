"""A rehearsal of what future releases may change: each ends in one clear error, none in an answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

import vtc
from vtc import compat
from vtc.engine import seams

from support import tiny

TESTED = rf"vtc is tested on transformers {compat.FLOOR} to {compat.TESTED}"


@pytest.fixture
def llava():
    case = tiny.CASES["llava-clip"]
    return case.build(), tiny.alone(case, 0)


def become(module, **members):
    """Give one module another class, as a later release might ship it."""
    module.__class__ = type("Next" + type(module).__name__, (type(module),), members)


def test_a_decoder_whose_cache_has_an_unknown_name(llava):
    model, _ = llava

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, kv_store=None, inputs_embeds=None):
        raise AssertionError("must not run")

    become(model.model.language_model, forward=forward)
    with pytest.raises(ImportError, match=f"takes no argument by any of the names 'cache' or.*kv_store.*{TESTED}"):
        vtc.patch(model, "divprune")
    assert "forward" not in model.__dict__ and "_vtc_handle" not in model.__dict__


def test_a_layer_whose_cache_has_an_unknown_name(llava):
    model, _ = llava

    def forward(self, hidden_states, attention_mask=None, position_ids=None, kv_store=None, position_embeddings=None):
        raise AssertionError("must not run")

    become(model.model.language_model.layers[3], forward=forward)
    with pytest.raises(ImportError, match="Decoder layer 3 .* takes its cache by none of the names"):
        vtc.patch(model, "fastv")
    vtc.patch(model, "divprune")  # touches no layer
    vtc.unpatch(model)


@pytest.mark.parametrize("lacks", ["and_mask_function", "cache"])
def test_a_mask_function_with_another_signature(llava, monkeypatch, lacks):
    def other(config, inputs_embeds, attention_mask, store, or_mask_function=None, and_mask_function=None):
        raise AssertionError("must not run")

    def fewer(config, inputs_embeds, attention_mask, cache, or_mask_function=None):
        raise AssertionError("must not run")

    monkeypatch.setitem(seams.MAKERS, "full_attention", other if lacks == "cache" else fewer)
    with pytest.raises(ImportError, match=f"The mask function .*{lacks}.*{TESTED}"):
        vtc.patch(llava[0], "divprune")


def test_cache_layers_with_another_contract(llava, monkeypatch):
    monkeypatch.setattr(DynamicLayer, "get_mask_sizes", lambda self, queries, window: (0, 0))
    with pytest.raises(ImportError, match=f"DynamicLayer.get_mask_sizes takes .*{TESTED}"):
        vtc.patch(llava[0], "divprune")
    monkeypatch.undo()
    monkeypatch.delattr(DynamicLayer, "crop")
    with pytest.raises(ImportError, match="have no method 'crop'"):
        vtc.patch(llava[0], "divprune")


@pytest.mark.parametrize("method", ["divprune", "fastv"])
def test_a_decoder_layer_that_returns_a_tuple(llava, method):
    model, inputs = llava
    for layer in model.model.language_model.layers:
        before = type(layer).forward
        become(layer, forward=lambda self, *a, before=before, **k: (before(self, *a, **k),))
    with vtc.patched(model, method, keep=0.5), pytest.raises(ImportError, match=f"returns a tuple .*{TESTED}"):
        model(**inputs)


def test_an_encoder_without_the_output_attribute(llava):
    model, inputs = llava
    become(model.model, get_image_features=lambda self, pixel_values=None, **rest: SimpleNamespace(rows=pixel_values))
    with vtc.patched(model, "divprune"), pytest.raises(ImportError, match="without 'pooler_output'"):
        model(**inputs)


def test_a_decoder_without_named_rows(llava):
    model, inputs = llava
    before = type(model.model.language_model).forward
    become(model.model.language_model, forward=lambda self, **k: tuple(before(self, **k).values()))
    with pytest.raises(ImportError):
        vtc.patch(model, "divprune")


class Bag:
    """A cache nobody knows."""


def test_a_foreign_cache(llava):
    model, inputs = llava
    name = seams.NAMES["cache"][0]
    decoder = seams.name_of("cache", type(model).forward) or name
    with vtc.patched(model, "divprune", keep=0.5), pytest.raises(TypeError, match="The cache is a Bag"):
        model(**inputs, **{decoder: Bag()})


class Forgetful(DynamicLayer):
    """Hands keys through and stores none."""

    def update(self, key_states, value_states, *args, **kwargs):
        return key_states, value_states


def test_a_cache_that_does_not_hold_what_was_counted(llava):
    model, inputs = llava
    cache = DynamicCache(config=model.config.text_config)
    cache.layers = [Forgetful() for _ in range(4)]
    name = seams.name_of("cache", type(model).forward)
    with vtc.patched(model, "divprune", keep=0.5), torch.no_grad():
        with pytest.raises(RuntimeError, match="holds 0 tokens per row where vtc counted"):
            model(**inputs, **{name: cache})


def test_a_cache_that_vtc_never_saw(llava):
    model, inputs = llava
    decoder = model.model.language_model
    name = seams.name_of("cache", type(decoder).forward)
    before = type(decoder).forward

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, inputs_embeds=None, **rest):
        rest[name] = DynamicCache(config=self.config)
        named = dict(attention_mask=attention_mask, position_ids=position_ids, inputs_embeds=inputs_embeds)
        return before(self, **named, **rest)

    given = DynamicCache(config=decoder.config)
    with vtc.patched(model, "divprune", keep=0.5), torch.no_grad():
        seat = decoder.__dict__["forward"]
        seat.own, seat.before = True, lambda *a, **k: forward(decoder, *a, **k)
        with pytest.raises(RuntimeError, match="that vtc never saw"):
            model(**inputs, **{name: given})
        seat.own, seat.before = False, None


@pytest.mark.parametrize(
    ("found", "message"),
    [("5.4.2", rf"vtc needs transformers >= {compat.FLOOR}, found 5.4.2"), ("6.0.0", "newer major version")],
)
def test_versions_out_of_range(llava, monkeypatch, found, message):
    monkeypatch.setattr(compat, "version", lambda name: found)
    compat.check_transformers.cache_clear()
    try:
        with pytest.raises(ImportError, match=message):
            vtc.patch(llava[0], "divprune")
    finally:
        compat.check_transformers.cache_clear()


def test_kv_bytes_are_those_of_the_formula(llava):
    model, inputs = llava
    config = model.config.text_config
    with torch.no_grad(), vtc.patched(model, "divprune", keep=0.5) as handle:
        model.generate(**inputs, max_new_tokens=2, do_sample=False)
        report = handle.report().to_dict()
    head = config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * 4
    assert report["visual_tokens"] == {"before": 36, "after": 18, "mean_over_layers": 18.0}
    assert report["kv_bytes"]["after"] == per_token * report["sequence"]["after"][0]
    assert report["kv_bytes"]["before"] == per_token * report["sequence"]["before"][0]
