"""What people bring along: packages with methods and families, unlisted models, LoRA, several devices."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
import torch
import transformers as tf

import vtc
from vtc import adapters, methods

from support import oracle, tiny, tiny_families

EXAMPLE = Path(__file__).parents[1] / "third_party"
CACHES = [adapters.list_adapters, methods._plugins, methods._class]


@pytest.fixture
def example_package(monkeypatch):
    """The example package, installed: its folder with a dist-info on the path."""

    def forget():
        for cache in CACHES:
            cache.cache_clear()

    monkeypatch.syspath_prepend(str(EXAMPLE))
    forget()
    yield
    monkeypatch.undo()
    forget()
    sys.modules.pop("vtc_example", None)


def relabelled(name: str, kind: str):
    """A tiny model whose config claims another model_type."""
    model = tiny_families.ALL[name].build()
    config = type("Config", (type(model.config),), {"model_type": kind})
    model.config.__class__ = config
    return model


def test_a_package_brings_a_method_and_a_family(example_package):
    assert "every-other" in vtc.list_methods() and "example_vlm" in vtc.list_families()
    model, case = relabelled("llava-clip", "example_vlm"), tiny_families.ALL["llava-clip"]
    with vtc.patched(model, "every-other", keep=0.25) as handle, torch.no_grad():
        model(**tiny.alone(case, 0))
    assert handle.adapter.family == "example_vlm"
    assert handle.last.images[0].kept.tolist() == list(range(0, 36, 4))


def test_without_the_package_its_names_are_unknown():
    with pytest.raises(ValueError, match="Unknown method 'every-other'"):
        vtc.patch(tiny_families.ALL["llava-clip"].build(), "every-other")


@pytest.mark.parametrize("name", ["llava-clip", "vipllava", "qwen2_vl", "qwen3_vl"])
def test_the_generic_adapter_serves_unlisted_families(name):
    """Embedding-based methods work and equal the oracle; where patches cannot be traced the message says so."""
    model, case = relabelled(name, "some_new_vlm"), tiny_families.ALL[name]
    inputs = tiny.batch(case)
    with vtc.patched(model, oracle.Norms(keep=0.5, cuts=((2, 0.5),))) as handle:
        assert handle.adapter.family == "generic"
        out = oracle.generate(model, inputs)
    expected = oracle.oracle_logits(model, inputs, handle.last, oracle.new_tokens(out, inputs))
    assert (torch.stack(out.logits, 1) - expected).abs().max() < 3e-5
    if name.startswith("qwen"):
        with vtc.patched(model, "vtc-cls"), pytest.raises(ValueError, match="adapter"):
            model(**inputs)


def test_a_text_model_is_refused_with_what_it_lacks():
    model = tf.LlamaForCausalLM(tiny.decoder_config("llama"))
    with pytest.raises(TypeError, match="no get_image_features"):
        vtc.patch(model, "pool")


@pytest.mark.parametrize("name", ["llava-clip", "qwen2_5_vl", "gemma3"])
def test_lora_around_a_model(name):
    """The wrapper runs the same modules: patch it or the model inside; merging and unloading change nothing."""
    peft = pytest.importorskip("peft")
    case = tiny_families.ALL[name]
    inputs = tiny.batch(case)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    wrapped = peft.get_peft_model(case.build(), config).eval()
    inner = wrapped.get_base_model()
    method = oracle.Norms(keep=0.5, cuts=((2, 0.5),))
    with vtc.patched(inner, method):
        expected = oracle.generate(inner, inputs)
        assert torch.equal(wrapped.generate(**inputs, **tiny.GENERATE), expected.sequences)
        loss = wrapped(**inputs, labels=inputs["input_ids"]).loss
        loss.backward()
    grads = [p.grad for n, p in wrapped.named_parameters() if "lora_A" in n and "layers.3." in n]
    assert any(g is not None and g.abs().sum() > 0 for g in grads)
    with vtc.patched(wrapped, method) as handle:
        assert handle.model is inner
        assert torch.equal(wrapped.generate(**inputs, **tiny.GENERATE), expected.sequences)


def device_map(model):
    """Everything on the CPU but the first two decoder layers, whose weights wait on disk."""
    yield "lm_head", "cpu"
    for name, child in model.model.named_children():
        if name != "language_model":
            yield f"model.{name}", "cpu"
            continue
        for inner, module in child.named_children():
            if inner == "layers":
                yield from ((f"model.{name}.layers.{i}", "disk" if i < 2 else "cpu") for i in range(len(module)))
            else:
                yield f"model.{name}.{inner}", "cpu"


@pytest.mark.parametrize("name", ["llava-clip", "qwen3_vl", "gemma3"])
@pytest.mark.parametrize("patch_first", [False, True])
def test_a_model_split_over_devices(name, patch_first):
    """The hooks accelerate puts around every module (a split between CPU and disk) and pruning go together."""
    accelerate = pytest.importorskip("accelerate")
    case = tiny_families.ALL[name]
    inputs = tiny.batch(case)
    method = oracle.Norms(keep=0.5, cuts=((2, 0.5),))
    model = case.build()
    with vtc.patched(model, method):
        expected = oracle.generate(model, inputs)
    handle = vtc.patch(model, method) if patch_first else None
    places = dict(device_map(model))
    with tempfile.TemporaryDirectory() as folder:
        options = dict(main_device="cpu", offload_dir=folder, force_hooks=True)
        split = accelerate.dispatch_model(model, places, **options)
        handle = handle or vtc.patch(split, method)
        assert next(split.get_decoder().layers[0].parameters()).device.type == "meta"
        out = oracle.generate(split, inputs)
        handle.remove()
    assert torch.equal(out.sequences, expected.sequences)
    assert all(torch.equal(a, b) for a, b in zip(out.logits, expected.logits, strict=True))
