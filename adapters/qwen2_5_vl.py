"""Qwen2.5-VL: dynamic resolution, window attention, 2 x 2 patch merger, M-RoPE, images and video."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.compat import window_index

from ._grid import GridAdapter
from .base import FeatureCall


class Qwen2_5_VLAdapter(GridAdapter):
    """One feature row per 2 x 2 merge group; encoder blocks run in window order."""

    family: ClassVar[str] = "qwen2_5_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    notes: ClassVar[str] = "images and video, window attention, M-RoPE"
    typical: ClassVar[dict[str, Any]] = {"global_layers": (7, 15, 23)}

    def global_layers(self, model: Any, depth: int) -> tuple[int, ...]:
        """Full-attention blocks: windowed ones cannot rank windows against each other."""
        return tuple(model.config.vision_config.fullatt_block_indexes)

    def patch_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Each feature row is a merge group of consecutive patches, in window order until the merger puts it back."""
        return super().patch_index(model, call)[self.natural_order(model, call)]

    def natural_order(self, model: Any, call: FeatureCall) -> Tensor:
        """Index that brings merged tokens from encoder order to raster order."""
        index = torch.as_tensor(window_index(self.tower(model), self.grid_thw(call)))
        return torch.argsort(index).cpu()
