"""Towers that take packed patches and a grid per image, as Qwen's do."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.core.layout import Unit
from vtc.core.stage import Need

from .base import Adapter, FeatureCall


class GridAdapter(Adapter):
    """One feature row per merge group of consecutive patches; every frame of a video is a partition."""

    towers: ClassVar[tuple[str, ...]] = ("visual",)
    multimodal_rope: ClassVar[bool] = True

    def grid_thw(self, call: FeatureCall) -> Tensor:
        """Patch grid [units, 3] of a feature call."""
        return call.kwargs[f"{call.modality}_grid_thw"]

    def merges(self, model: Any, call: FeatureCall) -> list[int]:
        """Side of the merge groups of every unit, in patches."""
        side: int = self.tower(model).spatial_merge_size
        return [side] * len(self.grid_thw(call))

    def units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Lattices after the merger."""
        grids = zip(self.grid_thw(call).tolist(), self.merges(model, call), strict=True)
        sizes = [(t, h // m, w // m) for (t, h, w), m in grids]
        joined = getattr(self.tower(model).config, "temporal_patch_size", 1) if call.modality == "video" else 1
        info = {"frames_per_part": joined}
        return [Unit(call.modality, t * h * w, grid=(t, h, w), info=dict(info)) for t, h, w in sizes]

    def patch_pixels(self, model: Any, call: FeatureCall) -> list[Tensor]:
        """Pixels of each merge group, per frame; all pictures of a temporal patch count."""
        vision, name = self.tower(model).config, "pixel_values" if call.modality == "image" else "pixel_values_videos"
        pixels = vision.patch_size**2 * getattr(vision, "temporal_patch_size", 1)
        patches = call.kwargs[name].float().view(-1, 3, pixels)
        units, group = self.units(model, call), self.merges(model, call)[0] ** 2
        rows = patches.view(-1, group, 3, pixels).transpose(1, 2).flatten(2)
        frames = [h * w for unit in units for t, h, w in [unit.grid or (1, 1, unit.length)] for _ in range(t)]
        return list(rows.split(frames))

    def place_pixels(self, model: Any, call: FeatureCall, need: Need, values: list[Tensor]) -> Tensor:
        """Pixels come in the order of the features."""
        return torch.cat(values)

    def patch_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Merge groups in the order of the features."""
        group = self.merges(model, call)[0] ** 2
        rows = torch.arange(sum(u.length for u in self.units(model, call)))
        return rows[:, None] * group + torch.arange(group)
