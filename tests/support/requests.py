"""Requests to a tiny model and their answers, for the tests that plant faults."""

from __future__ import annotations

import functools
from typing import Any

import torch

import vtc
from vtc.core.stage import ModelFacts
from vtc.methods import make_method

from support import faults, oracle, tiny

OPTIONS: dict[str, dict[str, Any]] = {
    "vflowopt": {"exact_budget": True},
    "quota": {"scorer": faults.Even()},
    "vla-pruner": {"warmup": "semantic"},
}


FACTS = ModelFacts("test", 24, 22, True, tuple(range(24)), 32, True)
VIDEO_ONLY = {m for m in vtc.list_methods() if make_method(m).stages(FACTS)[0].modalities == ("video",)}
"""Methods that leave images alone."""


def case_of(method: str) -> str:
    """The tiny model, by name, on whose first prompt a method acts."""
    return "qwen2_5_vl-video" if method in VIDEO_ONLY else "llava-clip"


@functools.cache
def prompts(name: str) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A prompt with an image (and a video, by the name of the model), and the same with others."""
    first = tiny.alone(tiny.CASES[name], 0)
    return first, {**first, **{k: v.flip(0) * 0.5 + 0.3 for k, v in first.items() if k.startswith("pixel_values")}}


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
