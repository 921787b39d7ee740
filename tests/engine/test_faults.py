"""A fault at any place of a call, of any kind: the next call answers as if nothing had been, and nothing stays behind.

The default suite strikes every place with a few methods and every method at a few places; ``-m slow`` has the product.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

import vtc

from support import faults, tiny
from support.requests import VIDEO_ONLY, answer, case_of, expected, kept, patch, prompts, state

KINDS = (RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit)
METHODS = vtc.list_methods()
EVERYWHERE, ALWAYS = ("todre", "quota"), ("a layer that is cut", "selection", "a decode step")
MODELS = ("llava-clip", "qwen2_5_vl")


def _default(model: str, method: str, place: str) -> bool:
    first = model in (MODELS[0], case_of(method))
    return method == "todre" or (first and (method in EVERYWHERE or place in ALWAYS))


PARAMETERS = [
    pytest.param(m, x, p, id=f"{m}-{x}-{p}", marks=() if _default(m, x, p) else pytest.mark.slow)
    for x in METHODS
    for m in ((case_of(x),) if x in VIDEO_ONLY else MODELS)
    for p in faults.PLACES
]


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
