"""Towers over square crops (or lattices of any size) whose patches are merged m x m in raster order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vtc.core.layout import Unit

from .base import Adapter, FeatureCall


def raster_groups(height: int, width: int, m: int) -> Tensor:
    """Patches of every m x m group of a lattice, groups in raster order: LongTensor [(h // m) * (w // m), m * m].

    What a side leaves over belongs to no group.
    """
    rows, cols = height // m, width // m
    lattice = torch.arange(height * width).view(height, width)[: rows * m, : cols * m]
    return lattice.reshape(rows, m, cols, m).transpose(1, 2).reshape(rows * cols, m * m)


class MergedAdapter(Adapter):
    """Every crop is a unit with a square lattice."""

    def merge(self, model: Any) -> int:
        """Side of the merge groups, in patches."""
        raise NotImplementedError

    def side(self, model: Any) -> int:
        """Patches per side of a crop."""
        vision = model.config.vision_config
        size, patch = (v if isinstance(v, int) else v[0] for v in (vision.image_size, vision.patch_size))
        return size // patch

    def units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """One unit per crop, whatever the features are grouped by."""
        side = self.side(model) // self.merge(model)
        rows = sum(self.lengths(model, call))
        return [Unit(call.modality, side * side, grid=(1, side, side)) for _ in range(rows // (side * side))]

    def patch_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Merge groups of every crop, [CLS] cut."""
        assert call.shape is not None
        cut = int(self.has_class_token(model) and not self.keeps_class_row(model, call))
        groups = raster_groups(self.side(model), self.side(model), self.merge(model)) + cut
        return (groups[None] + torch.arange(call.shape[0])[:, None, None] * call.shape[1]).flatten(0, 1)
