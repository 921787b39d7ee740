"""Mistral 3: Pixtral tower, 2 x 2 patch merger, a break token after every row of patches."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.core.layout import Unit

from ._merged import raster_groups
from .base import Adapter, FeatureCall


class Mistral3Adapter(Adapter):
    """Break tokens are text and stay."""

    family: ClassVar[str] = "mistral3"
    model_types: ClassVar[tuple[str, ...]] = ("mistral3",)
    notes: ClassVar[str] = "images of any size; row breaks stay"
    modalities: ClassVar[tuple[str, ...]] = ("image",)

    def grids(self, model: Any, call: FeatureCall) -> list[tuple[int, int]]:
        """Patches of every image."""
        patch: int = self.tower(model).patch_size
        return [(int(h) // patch, int(w) // patch) for h, w in torch.as_tensor(call.kwargs["image_sizes"]).tolist()]

    def units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Lattices after the merger."""
        m = model.config.spatial_merge_size
        merged = [(h // m, w // m) for h, w in self.grids(model, call)]
        return [Unit("image", h * w, grid=(1, h, w)) for h, w in merged]

    def patch_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Merge groups of all images in one packed sequence."""
        start, rows = 0, []
        for h, w in self.grids(model, call):
            rows.append(start + raster_groups(h, w, model.config.spatial_merge_size))
            start += h * w
        return torch.cat(rows)
