"""Qwen2.5-VL: dynamic resolution, window attention, 2 x 2 patch merger, M-RoPE, images and video."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vtc.core.layout import Unit

from .base import Adapter, FeatureCall


class Qwen2_5_VLAdapter(Adapter):
    """One feature row per 2 x 2 merge group; encoder blocks run in window order."""

    family: ClassVar[str] = "qwen2_5_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    notes: ClassVar[str] = "images and video, window attention, M-RoPE"
    towers: ClassVar[tuple[str, ...]] = ("visual",)
    multimodal_rope: ClassVar[bool] = True

    def global_layers(self, model: nn.Module, depth: int) -> tuple[int, ...]:
        """Full-attention blocks: windowed ones cannot rank windows against each other."""
        return tuple(model.config.vision_config.fullatt_block_indexes)

    def grid_thw(self, call: FeatureCall) -> Tensor:
        """Patch grid [units, 3] of a feature call."""
        return call.kwargs[f"{call.modality}_grid_thw"]

    def units(self, model: nn.Module, call: FeatureCall) -> list[Unit]:
        """Lattices after the merger; every frame of a video is a partition."""
        merge = self.tower(model).spatial_merge_size  # type: ignore[union-attr]
        grids = [(t, h // merge, w // merge) for t, h, w in self.grid_thw(call).tolist()]
        return [Unit(call.modality, t * h * w, grid=(t, h, w)) for t, h, w in grids]

    def patch_index(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Each feature row is a merge group of consecutive patches, in window order until the merger puts it back."""
        group: int = self.tower(model).spatial_merge_size ** 2  # type: ignore[union-attr,operator,assignment]
        order = self.natural_order(model, call)
        return order[:, None].cpu() * group + torch.arange(group)[None]

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
        return torch.argsort(torch.as_tensor(index))
