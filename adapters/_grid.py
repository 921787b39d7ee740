"""Towers that take packed patches and a grid per image, as Qwen's do."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vtc.core.layout import Unit

from .base import Adapter, FeatureCall


class GridAdapter(Adapter):
    """One feature row per merge group of consecutive patches; every frame of a video is a partition."""

    towers: ClassVar[tuple[str, ...]] = ("visual",)
    multimodal_rope: ClassVar[bool] = True

    def grid_thw(self, call: FeatureCall) -> Tensor:
        """Patch grid [units, 3] of a feature call."""
        return call.kwargs[f"{call.modality}_grid_thw"]

    def merges(self, model: nn.Module, call: FeatureCall) -> list[int]:
        """Side of the merge groups of every unit, in patches."""
        side: int = self.tower(model).spatial_merge_size  # type: ignore[union-attr,assignment]
        return [side] * len(self.grid_thw(call))

    def units(self, model: nn.Module, call: FeatureCall) -> list[Unit]:
        """Lattices after the merger."""
        grids = zip(self.grid_thw(call).tolist(), self.merges(model, call), strict=True)
        sizes = [(t, h // m, w // m) for (t, h, w), m in grids]
        return [Unit(call.modality, t * h * w, grid=(t, h, w)) for t, h, w in sizes]

    def patch_index(self, model: nn.Module, call: FeatureCall) -> Tensor:
        """Merge groups in the order of the features."""
        group = self.merges(model, call)[0] ** 2
        rows = torch.arange(sum(u.length for u in self.units(model, call)))
        return rows[:, None] * group + torch.arange(group)
