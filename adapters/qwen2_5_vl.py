"""Qwen2.5-VL: dynamic resolution, window attention, 2 x 2 patch merger, M-RoPE, images and video."""

from __future__ import annotations

from typing import Any, ClassVar

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
        config: Any = model.config
        return tuple(config.vision_config.fullatt_block_indexes)

    def patch_index(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Each feature row is a merge group of consecutive patches, in window order until the merger puts it back."""
        return super().patch_index(model, call)[self.natural_order(model, call)]

    def patch_pixels(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Pixels of each merge group; both frames of a temporal patch count."""
        tower: Any = self.tower(model)
        name = "pixel_values" if call.modality == "image" else "pixel_values_videos"
        patches = call.kwargs[name].float().view(-1, 3, tower.config.temporal_patch_size * tower.patch_size**2)
        groups = patches.view(-1, tower.spatial_merge_size**2, *patches.shape[1:])
        return groups.transpose(1, 2).flatten(2)

    def natural_order(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Index that brings merged tokens from encoder order to raster order."""
        from transformers.vision_utils import get_vision_window_index

        tower: Any = self.tower(model)
        index, _ = get_vision_window_index(
            self.grid_thw(call),
            spatial_merge_size=tower.spatial_merge_size,
            window_size=tower.window_size,
            patch_size=tower.patch_size,
        )
        return torch.argsort(torch.as_tensor(index)).cpu()
