"""Ctrl-C at any point of vtc's own code: the next call answers as if nothing had been, and nothing stays behind.

The default suite takes points at even distances; ``-m slow`` takes all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest
import torch

import vtc
from vtc.engine.installed import ATTRIBUTE

from support import faults, interrupts
from support.requests import answer, expected, kept, patch, prompts, state

MODEL = "llava-clip"
SOME = 25
METHODS = ("todre", "quota", "visionzip", "vla-pruner")
Body = Callable[[Any, Any], object]


def generates(model: Any, handle: Any) -> object:
    return answer(model, prompts(MODEL)[0])


def disabled(model: Any, handle: Any) -> object:
    with handle.disabled(), torch.no_grad():
        return model(**prompts(MODEL)[0])


def reports(model: Any, handle: Any) -> object:
    with torch.no_grad():
        model(**prompts(MODEL)[0])
    return str(handle.report())


BODIES: dict[str, Body] = {body.__name__: body for body in (generates, disabled, reports)}


def plain_again(model: Any) -> None:
    """Take the patch off where there is one."""
    if ATTRIBUTE in model.__dict__:
        vtc.unpatch(model)


def chosen(points: dict[Hashable, str], every: bool) -> list[Hashable]:
    found = list(points)
    return found if every else found[:: max(1, len(found) // SOME)]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_leaves_nothing_behind(tiny_model, method, body, every):
    model = tiny_model(MODEL)
    want, tokens, _, before = expected(model, MODEL, method)
    handle = patch(model, method)
    try:
        BODIES[body](model, handle)  # what is imported and filled in once is there
        handle.reset()
        points = interrupts.points(lambda: BODIES[body](model, handle))
        for point in chosen(points, every):
            handle.reset()
            assert interrupts.strike(lambda: BODIES[body](model, handle), point), points[point]
            faults.nothing_open(handle)
            assert handle.enabled, points[point]
            handle.reset()
            found = answer(model, prompts(MODEL)[1])
            assert torch.equal(found.sequences, want.sequences), points[point]
            assert all(torch.equal(a, b) for a, b in zip(found.logits, want.logits, strict=True)), points[point]
            assert kept(handle) == tokens, points[point]
    finally:
        vtc.unpatch(model)
    assert state(model) == before


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("act", ["patch", "unpatch"])
def test_an_interrupted_change_can_be_made_again(tiny_model, act, every):
    """Interrupted while it is patched, a model is plain or patched; while it is unpatched, it can be unpatched."""
    model = tiny_model(MODEL)
    want, _, plain, before = expected(model, MODEL, "todre")

    def change() -> None:
        patch(model, "todre") if act == "patch" else vtc.unpatch(model)

    if act == "unpatch":
        patch(model, "todre")
    points = interrupts.points(change)
    for point in chosen(points, every):
        plain_again(model)
        if act == "unpatch":
            patch(model, "todre")
        assert interrupts.strike(change, point), points[point]
        patch(model, "todre")
        assert torch.equal(answer(model, prompts(MODEL)[1]).sequences, want.sequences), points[point]
        vtc.unpatch(model)
        assert state(model) == before, points[point]
        with torch.no_grad():
            assert torch.equal(model(**prompts(MODEL)[1]).logits, plain), points[point]
