"""The stages call the kernels: same kept tokens and logits as with the torch references, launches counted."""

from __future__ import annotations

import importlib
from collections import Counter

import pytest
import torch

import vtc
from vtc.methods import make_method

from support import oracle, tiny

# method -> launching functions it must reach (operator, function)
PACK = ("pack", "pack_rows_triton")
TOPK = ("topk", "topk_triton")
GREEDY = ("greedy", "greedy_triton")
MEANS = ("merge", "group_means_triton")
ASSIGN = ("assign", "assign_triton")
ATTENTION = ("attention", "attention_triton")
TRANSITION = ("transition", "transition_triton")
EXPECTED = {
    "vtc-cls": [TOPK, ATTENTION, PACK],
    "todre": [GREEDY, ATTENTION, PACK],
    "divprune": [GREEDY, PACK],
    "visionzip": [MEANS, ASSIGN, ATTENTION, PACK],
    "pool": [MEANS, PACK],
    "vflowopt": [ATTENTION, PACK],
    "transprune": [TRANSITION, TOPK, PACK],
}


@pytest.fixture
def launches(monkeypatch):
    """Count what is launched."""
    counted = Counter()

    def spy(module, name):
        inner = getattr(module, name)

        def counting(*args, **kwargs):
            counted[name] += 1
            return inner(*args, **kwargs)

        monkeypatch.setattr(module, name, counting)

    for file, name in {place for places in EXPECTED.values() for place in places}:
        spy(importlib.import_module(f"vtc.kernels.{file}.triton"), name)
    return counted


@pytest.mark.parametrize("case", ["llava-clip", "qwen2_5_vl-video"])
@pytest.mark.parametrize("method", EXPECTED)
def test_engine_gives_the_same_with_kernels(monkeypatch, launches, method, case):
    model, inputs = tiny.CASES[case].build(), tiny.batch(tiny.CASES[case])
    results = {}
    for choice in ("torch", "triton"):
        monkeypatch.setenv("VTC_KERNELS", choice)
        with torch.no_grad(), vtc.patched(model, make_method(method, keep=0.4)) as handle:
            logits = model(**inputs).logits
            results[choice] = logits, [image.kept for image in handle.last.images]
        assert (sum(launches.values()) > 0) == (choice == "triton")
    missing = [name for _, name in EXPECTED[method] if not launches[name]]
    if case.startswith("qwen") and method == "todre":
        missing = [name for name in missing if name != ATTENTION[1]]  # no [CLS]: the pivot needs no attention
    assert not missing
    assert all(torch.equal(a, b) for a, b in zip(results["torch"][1], results["triton"][1], strict=True))
    assert (results["torch"][0] - results["triton"][0]).abs().max() < 3e-5


def test_generation_gives_the_same_with_kernels(monkeypatch):
    model, inputs = tiny.CASES["llava-clip"].build(), tiny.batch(tiny.CASES["llava-clip"])
    tokens = []
    for choice in ("torch", "triton"):
        monkeypatch.setenv("VTC_KERNELS", choice)
        with vtc.patched(model, [make_method("divprune", keep=0.5), oracle.LastQuery(keep=0.5)]):
            tokens.append(model.generate(**inputs, **tiny.GENERATE))
    assert torch.equal(*tokens)
