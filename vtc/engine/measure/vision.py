"""Measurements inside a vision tower: one function per statistic, over one kernel call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vtc.adapters import Adapter, FeatureCall

from ...core.entropy import row_entropy
from ...core.focus import focus_of_call
from ...core.stage import Need
from ...core.stats import AttentionCall, class_row, received
from .tap import Collector, finite


def _class_row(call: AttentionCall, need: Need, skip: int) -> Tensor:
    return class_row(call)


def _received(call: AttentionCall, need: Need, skip: int) -> Tensor:
    return received(call)


def _focus(call: AttentionCall, need: Need, skip: int) -> Tensor:
    return focus_of_call(call, float(need.option), skip)  # type: ignore[arg-type]


VISION_MEASURES: dict[str, Callable[[AttentionCall, Need, int], Tensor]] = {
    "class_row": _class_row,
    "received": _received,
    "focus": _focus,
}
PIXEL_STATS = ("entropy",)
"""Statistics that are read from the pixels, not from a layer."""


def measure(need: Need, skip: int, call: AttentionCall, collector: Collector) -> Tensor:
    """One statistic of one kernel call.

    Raises
    ------
    ValueError
        Queries or keys are not finite.
    """
    if not finite(call):
        raise ValueError(
            f"Attention in block {need.layer} of the vision tower is not finite (NaN or infinite): no method can rank "
            "by it. Look at the pixels, the weights and the dtype of the model."
        )
    return VISION_MEASURES[need.stat](call, need, skip)


def wanted(adapter: Adapter, model: nn.Module, needs: list[Need]) -> dict[nn.Module, dict[Need, Callable]]:
    """Attention modules to tap, and what to measure in each.

    Raises
    ------
    ValueError
        No such layer, or an unknown statistic.
    """
    found: dict[nn.Module, dict[Need, Any]] = {}
    skip = int(bool(needs) and adapter.has_class_token(model))
    for modality in adapter.modalities:
        blocks = adapter.tower_blocks(model, modality)
        for need in [n for n in needs if n.stat not in PIXEL_STATS]:
            module = adapter.attention(blocks[need.layer]) if need.layer < len(blocks) else None
            if module is None:
                raise ValueError(f"No attention module at encoder layer {need.layer} of {adapter.family!r}.")
            if need.stat not in VISION_MEASURES:
                raise ValueError(f"The encoder can measure {sorted(VISION_MEASURES)}, not {need.stat!r}.")
            found.setdefault(module, {})[need] = functools.partial(measure, need, skip)
    return found


@torch.no_grad()
def entropy(adapter: Adapter, model: nn.Module, call: FeatureCall, need: Need, processor: object) -> Tensor:
    """Softmax over each crop or frame of the entropy of the pixels behind its patches."""
    images = getattr(processor, "image_processor", processor)
    mean, std = getattr(images, "image_mean", None), getattr(images, "image_std", None)
    if need.option != "wrapped" and (mean is None or std is None):
        raise ValueError(
            "The entropy of patches is taken from the 8-bit image, which needs the processor's mean and standard "
            "deviation: pass processor=... to vtc.patch."
        )
    mode: Any = need.option or "paper"
    scale = (mode, mean or (0.5,) * 3, std or (0.5,) * 3)
    shares = [torch.softmax(row_entropy(p, *scale), 0) for p in adapter.patch_pixels(model, call)]
    return adapter.place_pixels(model, call, need, shares)
