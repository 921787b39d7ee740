"""Requests to a tiny model and their answers, for the tests that plant faults."""

from __future__ import annotations

import functools
from typing import Any

import torch

import vtc

from support import faults, oracle, tiny

OPTIONS: dict[str, dict[str, Any]] = {
    "vflowopt": {"exact_budget": True},
    "quota": {"scorer": faults.Even()},
    "vla-pruner": {"warmup": "semantic"},
}


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
