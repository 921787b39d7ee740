"""Measurements inside a vision tower: one function per statistic, over one kernel call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vtc.adapters import Adapter, FeatureCall

from ...core.stage import Need
from ...core.statistics import AttentionCall, Context
from .tap import Collector, finite


class TowerContext(Context):
    """Patches of a vision tower: all of them count, but for the leading ``skip``."""

    def __init__(self, skip: int) -> None:
        self.skip = skip


def measure(need: Need, context: Context, call: AttentionCall, collector: Collector) -> Tensor:
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
    return need.statistic.compute(call, need.option, context)


def wanted(adapter: Adapter, model: nn.Module, needs: list[Need]) -> dict[nn.Module, dict[Need, Callable]]:
    """Attention modules to tap, and what to measure in each.

    Raises
    ------
    ValueError
        No such layer.
    """
    found: dict[nn.Module, dict[Need, Any]] = {}
    context = TowerContext(int(bool(needs) and adapter.has_class_token(model)))
    for modality in adapter.modalities:
        blocks = adapter.tower_blocks(model, modality)
        for need in [n for n in needs if n.statistic.source == "attention"]:
            module = adapter.attention(blocks[need.layer]) if need.layer < len(blocks) else None
            if module is None:
                raise ValueError(f"No attention module at encoder layer {need.layer} of {adapter.family!r}.")
            found.setdefault(module, {})[need] = functools.partial(measure, need, context)
    return found


@torch.no_grad()
def of_pixels(adapter: Adapter, model: nn.Module, call: FeatureCall, need: Need, processor: object) -> Tensor:
    """Compute one statistic of the pixels behind the patches of each crop or frame.

    Raises
    ------
    ValueError
        It takes the 8-bit image, and no processor says how to restore that.
    """
    images = getattr(processor, "image_processor", processor)
    mean, std = getattr(images, "image_mean", None), getattr(images, "image_std", None)
    if need.option != "wrapped" and (mean is None or std is None):
        raise ValueError(
            "The entropy of patches is taken from the 8-bit image, which needs the processor's mean and standard "
            "deviation: pass processor=... to vtc.patch."
        )
    scale = mean or (0.5,) * 3, std or (0.5,) * 3
    values = [need.statistic.compute(p, need.option, *scale) for p in adapter.patch_pixels(model, call)]
    return adapter.place_pixels(model, call, need, values)
