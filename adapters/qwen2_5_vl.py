"""Qwen2.5-VL: dynamic resolution, window attention, 2 x 2 patch merger, M-RoPE, images and video."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ._grid import GridAdapter
from .base import FeatureCall


class Qwen2_5_VLAdapter(GridAdapter):
    """One feature row per 2 x 2 merge group; encoder blocks run in window order."""

    family: ClassVar[str] = "qwen2_5_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    notes: ClassVar[str] = "images and video, window attention, M-RoPE"

    def global_layers(self, model: nn.Module, depth: int) -> tuple[int, ...]:
        """Full-attention blocks: windowed ones cannot rank windows against each other."""
        return tuple(model.config.vision_config.fullatt_block_indexes)

    def patch_index(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Each feature row is a merge group of consecutive patches, in window order until the merger puts it back."""
        return super().patch_index(model, call)[self.natural_order(model, call)]

    def natural_order(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Index that brings merged tokens from encoder order to raster order."""
        from transformers.vision_utils import get_vision_window_index

        tower = self.tower(model)
        assert tower is not None
        index, _ = get_vision_window_index(
            self.grid_thw(call),
            spatial_merge_size=tower.spatial_merge_size,
            window_size=tower.window_size,
            patch_size=tower.patch_size,
        )
        return torch.argsort(torch.as_tensor(index)).cpu()
