"""A fault at any place of a call, of any kind: the next call answers as if nothing had been, and nothing stays behind.

The default suite strikes every place with a few methods and every method at a few places; ``-m slow`` has the product.
"""

from __future__ import annotations

import functools
from typing import Any

import faults
import oracle
import pytest
import tiny
import torch

import vtc

KINDS = (RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit)
METHODS = vtc.list_methods()
OPTIONS: dict[str, dict[str, Any]] = {
    "vflowopt": {"exact_budget": True},
    "quota": {"scorer": faults.Even()},
    "vla-pruner": {"warmup": "semantic"},
}
EVERYWHERE, ALWAYS = ("todre", "quota"), ("a layer that is cut", "selection", "a decode step")
MODELS = ("llava-clip", "qwen2_5_vl")


def _default(model: str, method: str, place: str) -> bool:
    first = model == MODELS[0]
    return method == "todre" or (first and (method in EVERYWHERE or place in ALWAYS))


PARAMETERS = [
    pytest.param(m, x, p, id=f"{m}-{x}-{p}", marks=() if _default(m, x, p) else pytest.mark.slow)
    for m in MODELS
    for x in METHODS
    for p in faults.PLACES
]


@functools.cache
def prompts(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A prompt with an image, and the same with another image."""
    first = tiny.alone(tiny.CASES[name], 0)
    return first, {**first, "pixel_values": first["pixel_values"].flip(0) * 0.5 + 0.3}


def patch(model: Any, method: str) -> Any:
    return vtc.patch(model, method, keep=0.5, **OPTIONS.get(method, {}))


def answer(model: Any, inputs: dict[str, torch.Tensor], **extra: Any) -> Any:
    return oracle.generate(model, inputs, max_new_tokens=3, **extra)


def kept(handle: Any) -> list[list[int]]:
    return [image.kept.tolist() for image in handle.last.images]


@functools.cache
def expected(model: Any, name: str, method: str) -> tuple[Any, list[list[int]], torch.Tensor, tuple]:
    """Answer to the second prompt by a fresh patch, what it keeps, and the plain model: its logits and its state."""
    second = prompts(name)[1]
    with torch.no_grad():
        plain = model(**second).logits
    before = state(model)
    handle = patch(model, method)
    try:
        return answer(model, second), kept(handle), plain, before
    finally:
        vtc.unpatch(model)


def state(model: Any) -> tuple:
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    return tuple((n, tuple(m.__dict__), *(len(getattr(m, h)) for h in hooks)) for n, m in model.named_modules())


@functools.cache
def bystander() -> tuple[Any, Any]:
    """Another patched model of this thread, and its answer; without taps, of which other tests want to see none."""
    model = tiny.CASES["llava-siglip"].build()
    vtc.patch(model, "divprune", keep=0.5)
    return model, answer(model, tiny.alone(tiny.CASES["llava-siglip"], 0))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("name", "method", "place"), PARAMETERS)
def test_a_fault_leaves_nothing_behind(tiny_model, name, method, place):
    model, (first, second) = tiny_model(name), prompts(name)
    want, tokens, plain, before = expected(model, name, method)
    for kind in KINDS:
        handle = patch(model, method)
        try:
            struck = strike(model, handle, place, kind, first)
            assert struck == faults.owns(faults.Plant(model, handle, kind(), pytest.MonkeyPatch()), place)
            faults.nothing_open(handle)
            handle.reset()
            found = answer(model, second)
            assert torch.equal(found.sequences, want.sequences)
            assert all(torch.equal(a, b) for a, b in zip(found.logits, want.logits, strict=True))
            assert kept(handle) == tokens
        finally:
            vtc.unpatch(model)
        assert state(model) == before
    with torch.no_grad():
        assert torch.equal(model(**second).logits, plain)
    other, alone = bystander()
    again = answer(other, tiny.alone(tiny.CASES["llava-siglip"], 0))
    assert torch.equal(again.sequences, alone.sequences)


def strike(model: Any, handle: Any, place: str, kind: type[BaseException], inputs: dict[str, torch.Tensor]) -> bool:
    """Run a call with a fault planted; True when it struck, and then it must have come out as it was."""
    fault = kind("planted")
    with pytest.MonkeyPatch.context() as patcher:
        plant = faults.Plant(model, handle, fault, patcher)
        faults.PLACES[place](plant)
        try:
            answer(model, inputs, **plant.extra)
        except BaseException as raised:
            if raised is not fault:
                raise
            assert plant.struck
        else:
            assert not plant.struck, "the fault was swallowed"
        finally:
            plant.pull()
    return plant.struck
