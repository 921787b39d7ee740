"""Towers over square crops (or lattices of any size) whose patches are merged m x m in raster order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.layout import Unit

from ._plain import sized_lattices
from .geometry import Encoder, FeatureCall, Geometry


def raster_groups(height: int, width: int, m: int) -> Tensor:
    """Patches of every m x m group of a lattice, groups in raster order: LongTensor [(h // m) * (w // m), m * m].

    What a side leaves over belongs to no group.
    """
    rows, cols = height // m, width // m
    lattice = torch.arange(height * width).view(height, width)[: rows * m, : cols * m]
    return lattice.reshape(rows, m, cols, m).transpose(1, 2).reshape(rows * cols, m * m)


def crop_groups(encoder: Encoder, call: FeatureCall, m: int, cut: int) -> Tensor:
    """Groups of square crops that lie in the tower one after another, ``cut`` rows of [CLS] before each."""
    crops, width = call.patches
    groups = raster_groups(encoder.side, encoder.side, m) + cut
    return (groups[None] + torch.arange(crops)[:, None, None] * width).flatten(0, 1)


@dataclass(frozen=True, repr=False)
class Merged(Geometry):
    """Every m x m patches of a square crop become a row; every crop is an image of its own.

    At most one of the three says how many patches are merged.

    Parameters
    ----------
    merge : int or str
        Side m of the groups, or the field of the configuration that holds it.
    ratio : str
        Field that holds 1 / m.
    tokens : str
        Field that holds the rows a crop becomes.
    """

    merge: int | str = 1
    ratio: str = ""
    tokens: str = ""

    def group(self, encoder: Encoder) -> int:
        """Side of the groups, in patches."""
        if self.ratio:
            return round(1 / encoder.number(self.ratio))
        if self.tokens:
            return encoder.side // round(encoder.number(self.tokens) ** 0.5)
        return int(encoder.number(self.merge))

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """One unit per crop, whatever the features are grouped by."""
        side = encoder.side // self.group(encoder)
        rows = sum(self.lengths(encoder, call))
        return [Unit(call.modality, side * side, grid=(1, side, side)) for _ in range(rows // (side * side))]

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Merge groups of every crop, [CLS] cut."""
        return crop_groups(encoder, call, self.group(encoder), self.cut(encoder, call))


@dataclass(frozen=True, repr=False)
class MergedSizes(Merged):
    """Images of any size (``image_sizes``) in one packed sequence, every m x m patches of which become a row."""

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Lattices after the merger."""
        m = self.group(encoder)
        merged = [(h // m, w // m) for h, w in sized_lattices(encoder, call)]
        return [Unit(call.modality, h * w, grid=(1, h, w)) for h, w in merged]

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Merge groups of all images in one packed sequence."""
        start, rows = 0, []
        for h, w in sized_lattices(encoder, call):
            rows.append(start + raster_groups(h, w, self.group(encoder)))
            start += h * w
        return torch.cat(rows)
