"""Towers that take packed patches and a grid per image, as Qwen's do."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.compat import window_index
from vtc.core.layout import Unit
from vtc.core.stage import Need

from .geometry import Encoder, FeatureCall, Geometry


@dataclass(frozen=True, repr=False)
class Grid(Geometry):
    """Patches of any number of images in one sequence, merge group by merge group, with a grid (t, h, w) for each.

    One feature row per group, every frame of a video is a partition.

    Parameters
    ----------
    temporal : bool
        A frame of the grid stands for ``temporal_patch_size`` frames of the video.
    windowed : bool
        The blocks run in window order, and the merger puts its rows back.
    merge_sizes : bool
        Every image brings the side of its groups along (``image_merge_sizes``); else the tower has one.
    """

    temporal: bool = False
    windowed: bool = False
    merge_sizes: bool = False

    def grids(self, call: FeatureCall) -> Tensor:
        """Patch grid [units, 3] of a feature call."""
        return torch.as_tensor(call.argument(f"{call.modality}_grid_thw"))

    def merges(self, encoder: Encoder, call: FeatureCall) -> list[int]:
        """Side of the merge groups of every unit, in patches."""
        if self.merge_sizes:
            return torch.as_tensor(call.argument(f"{call.modality}_merge_sizes")).tolist()
        side: int = encoder.of_tower("spatial_merge_size")
        return [side] * len(self.grids(call))

    def lattices(self, encoder: Encoder, call: FeatureCall) -> list[tuple[int, int, int, int]]:
        """Frames, rows and columns after the merger and side of the groups, of every unit."""
        grids = zip(self.grids(call).tolist(), self.merges(encoder, call), strict=True)
        return [(t, h // m, w // m, m) for (t, h, w), m in grids]

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Lattices after the merger."""
        joined = getattr(encoder.of_tower("config"), "temporal_patch_size", 1) if self.temporal else 1
        sizes = self.lattices(encoder, call)
        return [
            Unit(call.modality, t * h * w, grid=(t, h, w), info={"frames_per_part": joined}) for t, h, w, _ in sizes
        ]

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Consecutive merge groups; smaller ones repeat their patches up to the largest size of the call."""
        sizes, start, rows = self.lattices(encoder, call), 0, []
        widest = max((m for *_, m in sizes), default=1) ** 2
        for t, h, w, m in sizes:
            index = start + torch.arange(t * h * w * m * m).view(-1, m * m)
            rows.append(index[:, torch.arange(widest) % (m * m)])
            start += index.numel()
        index = torch.cat(rows)
        return index[self.natural_order(encoder, call)] if self.windowed else index

    def natural_order(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Index that brings merged tokens from window order to raster order."""
        return torch.argsort(torch.as_tensor(window_index(encoder.tower, self.grids(call)))).cpu()

    def pixels(self, encoder: Encoder, call: FeatureCall) -> list[Tensor]:
        """Pixels of each merge group, per frame; all pictures of a temporal patch count."""
        vision, frames, start = encoder.of_tower("config"), [], 0
        count = vision.patch_size**2 * getattr(vision, "temporal_patch_size", 1)
        patches = call.pixels.float().view(-1, 3, count)
        for t, h, w, m in self.lattices(encoder, call):
            stop = start + t * h * w * m * m
            rows = patches[start:stop].view(-1, m * m, 3, count).transpose(1, 2).flatten(2)
            frames += rows.split(h * w)
            start = stop
        return frames

    def place_pixels(self, encoder: Encoder, call: FeatureCall, need: Need, values: list[Tensor]) -> Tensor:
        """Pixels come in the order of the features."""
        return torch.cat(values)
