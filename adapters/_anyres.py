"""Images cut into a base crop and tiles: where each packed row came from, told by the model's own packing code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from vtc.core.layout import Role, Unit
from vtc.core.stage import Need

from .base import Adapter, FeatureCall


@dataclass(frozen=True)
class Packed:
    """Origin of the rows of one image: ``crop`` and ``cell`` LongTensor [n], -1 for newlines.

    ``exact`` is False when the packing interpolates: then they name the nearest patch.
    """

    crop: Tensor
    cell: Tensor
    exact: bool


class AnyresAdapter(Adapter):
    """Base crop, tiles in raster order, unpadding, one newline per row of the stitched tiles."""

    def pack(self, model: Any, call: FeatureCall, crops: list[Tensor], newline: Tensor) -> list[Tensor]:
        """Send ``crops`` (per image ``[P, N, C]``) and a newline ``[C]`` through the model's packing code."""
        raise NotImplementedError

    def tiles(self, model: Any, call: FeatureCall) -> list[tuple[int, int] | None]:
        """Rows and columns of tiles of every image; None for an image that is not tiled."""
        side = model.config.vision_config.image_size
        best = (select_best_resolution(tuple(s), model.config.image_grid_pinpoints) for s in self._sizes(call))
        return [(h // side, w // side) for h, w in best]

    def _sizes(self, call: FeatureCall) -> list[list[int]]:
        return torch.as_tensor(call.kwargs["image_sizes"]).tolist()

    def side(self, model: Any) -> int:
        """Patches per side of a crop."""
        vision: Any = model.config.vision_config
        return vision.image_size // vision.patch_size

    def packed(self, model: Any, call: FeatureCall) -> list[Packed]:
        """Origin of every row: coordinates of the stitched lattice, carried through the packing."""
        side, tiles = self.side(model), self.tiles(model, call)
        crops = [_coordinates(side, grid) for grid in tiles]
        rows = self.pack(model, call, crops, torch.full((3,), torch.nan, dtype=torch.double))
        return [_origin(r, side, grid) for r, grid in zip(rows, tiles, strict=True)]

    def units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Partitions are the base crop and the tiles in raster order."""
        if call.modality != "image":
            return self.video_units(model, call)
        packed, tiles, side = self.packed(model, call), self.tiles(model, call), self.side(model)
        vision: Any = model.config.vision_config
        units = []
        for p, grid, size in zip(packed, tiles, self._sizes(call), strict=True):
            newline = p.crop < 0
            role = torch.where(newline, int(Role.NEWLINE), int(Role.PATCH))
            part = _fill_forward(p.crop)
            count = 1 + (grid[0] * grid[1] if grid else 0)
            info: dict[str, Any] = {"boxes": _boxes(size, grid, vision.image_size), "base_side": side}
            if grid:
                info["tile_grid"] = grid
                info["local_w"] = int(newline.nonzero()[0]) - side * side + 1
            units.append(Unit("image", len(part), None, part, p.cell, role, ((side, side),) * count, info))
        return units

    def video_units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Units of ``get_video_features``."""
        return super().units(model, call)

    def patch_index(self, model: Any, call: FeatureCall) -> Tensor:
        """One patch per row, -1 for newlines."""
        if call.modality != "image":
            return self.video_index(model, call)
        packed = self.packed(model, call)
        if not all(p.exact for p in packed):
            raise ValueError(
                f"Family {self.family!r} shrinks the map of a large image by interpolation, so a feature row mixes "
                "several encoder patches and patches cannot be dropped inside the encoder. Use a method that acts "
                "after the projector, or a smaller image."
            )
        assert call.shape is not None
        width, cut, start, rows = call.shape[1], self._cut(model, call), 0, []
        for p, grid in zip(packed, self.tiles(model, call), strict=True):
            rows.append(torch.where(p.crop < 0, -1, (start + p.crop) * width + p.cell + cut))
            start += 1 + (grid[0] * grid[1] if grid else 0)
        return torch.cat(rows)[:, None]

    def video_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Patch index of ``get_video_features``."""
        return super().patch_index(model, call)

    def _cut(self, model: Any, call: FeatureCall) -> int:
        return int(self.has_class_token(model) and not self.keeps_class_row(model, call))

    def patches_of(self, model: Any, call: FeatureCall, need: Need, values: Tensor) -> Tensor:
        """Drop the column of [CLS] from values [images, columns] of a statistic that has one."""
        return values[:, self._cut(model, call) :] if need.statistic.class_column else values

    def carry(self, model: Any, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Statistics go through the packing as a one-channel map, interpolation included; newlines are NaN."""
        if call.modality != "image":
            return self.video_carry(model, call, need, raw)
        crops = [torch.stack(parts)[..., None] for parts in self.part_stats(model, call, need, raw)]
        rows = self.pack(model, call, crops, crops[0].new_full((1,), torch.nan))
        return torch.cat([r[:, 0] for r in rows])

    def video_carry(self, model: Any, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Statistics of ``get_video_features``."""
        return super().carry(model, call, need, raw)

    def patch_pixels(self, model: Any, call: FeatureCall) -> list[Tensor]:
        """Pixels of the crops an image really has: smaller images are padded with empty ones."""
        pixels = call.kwargs.get("pixel_values")
        if call.modality != "image" or not isinstance(pixels, Tensor) or pixels.ndim != 5:
            return super().patch_pixels(model, call)
        tiles = self.tiles(model, call)
        crops = [p[: 1 + (g[0] * g[1] if g else 0)] for p, g in zip(pixels, tiles, strict=True)]
        flat = FeatureCall(call.modality, {**call.kwargs, "pixel_values": torch.cat(crops)}, call.output, call.shape)
        return super().patch_pixels(model, flat)

    def part_stats(self, model: Any, call: FeatureCall, need: Need, raw: list[Tensor]) -> list[list[Tensor]]:
        """Statistic of every crop before the packing, per image: methods may rank patches that unpadding removes."""
        if call.modality != "image":
            return []
        values = torch.cat([self.patches_of(model, call, need, r) for r in raw])
        counts = [1 + (g[0] * g[1] if g else 0) for g in self.tiles(model, call)]
        return [list(v) for v in values.split(counts)]


def _coordinates(side: int, grid: tuple[int, int] | None) -> Tensor:
    """Row, column in the stitched map and a flag for tiles, of every patch: double [crops, N, 3]."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = torch.stack([y, x, torch.zeros_like(y)], -1).reshape(1, side * side, 3)
    if grid is None:
        return inside.double()
    down, right = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    shift = torch.stack([down * side, right * side, torch.ones_like(down)], -1).reshape(-1, 1, 3)
    return torch.cat([inside, inside + shift]).double()


def _origin(rows: Tensor, side: int, grid: tuple[int, int] | None) -> Packed:
    newline = rows[:, 0].isnan()
    near = rows.nan_to_num().round()
    exact = bool((near == rows.nan_to_num()).all())
    y, x, tile = near.long().unbind(1)
    crop = tile * (1 + (y // side) * (grid[1] if grid else 0) + x // side)
    cell = (y % side) * side + x % side
    return Packed(crop.masked_fill(newline, -1), cell.masked_fill(newline, -1), exact)


def _fill_forward(crop: Tensor) -> Tensor:
    """Newlines count to the partition of the row before them."""
    place = torch.where(crop >= 0, torch.arange(len(crop)), 0).cummax(0).values
    return crop[place]


def _boxes(size: list[int], grid: tuple[int, int] | None, side: int) -> list[tuple[float, float, float, float]]:
    """Place of every partition in the original image as fractions; tiles may reach beyond it into the padding."""
    whole = [(0.0, 0.0, 1.0, 1.0)]
    if grid is None:
        return whole
    height, width = size
    scale = min(grid[0] * side / height, grid[1] * side / width)
    new_h, new_w = height * scale, width * scale
    top, left = (grid[0] * side - new_h) / 2, (grid[1] * side - new_w) / 2
    across = [(j * side - left) / new_w for j in range(grid[1] + 1)]
    down = [(i * side - top) / new_h for i in range(grid[0] + 1)]
    return whole + [(across[j], down[i], across[j + 1], down[i + 1]) for i in range(grid[0]) for j in range(grid[1])]
