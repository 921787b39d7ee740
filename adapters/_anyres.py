"""Images cut into a base crop and tiles: where each packed row came from, told by the model's own packing code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.image_processing_utils import select_best_resolution

from vtc.core.layout import Role, Unit
from vtc.core.stage import Need

from .geometry import Encoder, FeatureCall, Geometry

Tiles = tuple[int, int] | None
"""Rows and columns of tiles; None for an image that is not tiled."""


@dataclass(frozen=True)
class Packed:
    """Origin of the rows of one image: ``crop`` and ``cell`` LongTensor [n], -1 for newlines.

    ``exact`` is False when the packing interpolates: then they name the nearest patch.
    """

    crop: Tensor
    cell: Tensor
    exact: bool


@dataclass(frozen=True, repr=False)
class Anyres(Geometry):
    """Base crop, tiles in raster order, unpadding, one newline per row of the stitched tiles.

    ``pack_image_features`` of the base model packs; coordinates and statistics go through it as features do.

    Parameters
    ----------
    options : mapping of str to str
        Further arguments of it.
    asked : tuple of str
        Those it takes from the call, or else from the configuration.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    asked: tuple[str, ...] = ()

    def pack(self, encoder: Encoder, call: FeatureCall, crops: list[Tensor], newline: Tensor) -> list[Tensor]:
        """Send ``crops`` (per image ``[P, N, C]``) and a newline ``[C]`` through the model's packing code."""
        asked = {name: call.kwargs.get(name) or getattr(encoder.config, name) for name in self.asked}
        sizes = call.argument("image_sizes")
        return encoder.base.pack_image_features(crops, sizes, image_newline=newline, **self.options, **asked)[0]

    def tiles(self, encoder: Encoder, call: FeatureCall) -> list[Tiles]:
        """Tiles of every image; images of a sample with several are not tiled (``batch_num_images``)."""
        side, counts = encoder.image_size, call.kwargs.get("batch_num_images")
        pinpoints = encoder.config.image_grid_pinpoints
        best = [select_best_resolution(tuple(s), pinpoints) for s in self._sizes(call)]
        alone = [True] * len(best) if counts is None else [int(n) == 1 for n in counts for _ in range(int(n))]
        return [(h // side, w // side) if one else None for (h, w), one in zip(best, alone, strict=True)]

    def _sizes(self, call: FeatureCall) -> list[list[int]]:
        return torch.as_tensor(call.argument("image_sizes")).tolist()

    def packed(self, encoder: Encoder, call: FeatureCall) -> list[Packed]:
        """Origin of every row: coordinates of the stitched lattice, carried through the packing."""
        side, tiles = encoder.side, self.tiles(encoder, call)
        crops = [_coordinates(side, grid) for grid in tiles]
        rows = self.pack(encoder, call, crops, torch.full((3,), torch.nan, dtype=torch.double))
        return [_origin(r, side, grid) for r, grid in zip(rows, tiles, strict=True)]

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Partitions are the base crop and the tiles in raster order."""
        images = zip(self.packed(encoder, call), self.tiles(encoder, call), self._sizes(call), strict=True)
        return [_unit(call.modality, encoder, *image) for image in images]

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """One patch per row, -1 for newlines."""
        packed = self.packed(encoder, call)
        if not all(p.exact for p in packed):
            raise ValueError(
                f"Family {encoder.family!r} shrinks the map of a large image by interpolation, so a feature row mixes "
                "several encoder patches and patches cannot be dropped inside the encoder. Use a method that acts "
                "after the projector, or a smaller image."
            )
        width, cut, start, rows = call.patches[1], self.cut(encoder, call), 0, []
        for p, grid in zip(packed, self.tiles(encoder, call), strict=True):
            rows.append(torch.where(p.crop < 0, -1, (start + p.crop) * width + p.cell + cut))
            start += _crops(grid)
        return torch.cat(rows)[:, None]

    def carry(self, encoder: Encoder, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Statistics go through the packing as a one-channel map, interpolation included; newlines are NaN."""
        crops = [torch.stack(parts)[..., None] for parts in self.part_stats(encoder, call, need, raw)]
        rows = self.pack(encoder, call, crops, crops[0].new_full((1,), torch.nan))
        return torch.cat([r[:, 0] for r in rows])

    def part_stats(self, encoder: Encoder, call: FeatureCall, need: Need, raw: list[Tensor]) -> list[list[Tensor]]:
        """Statistic of every crop before the packing, per image: methods may rank patches that unpadding removes."""
        counts = [_crops(grid) for grid in self.tiles(encoder, call)]
        return [list(v) for v in self.patches_of(encoder, call, need, raw).split(counts)]

    def pixels(self, encoder: Encoder, call: FeatureCall) -> list[Tensor]:
        """Pixels of the crops an image really has: smaller images are padded with empty ones."""
        pixels = call.kwargs.get("pixel_values")
        if not isinstance(pixels, Tensor) or pixels.ndim != 5:
            return super().pixels(encoder, call)
        crops = [p[: _crops(grid)] for p, grid in zip(pixels, self.tiles(encoder, call), strict=True)]
        flat = FeatureCall(call.modality, {**call.kwargs, "pixel_values": torch.cat(crops)}, call.output, call.shape)
        return super().pixels(encoder, flat)


def _crops(grid: Tiles) -> int:
    """Base crop and tiles."""
    return 1 + (grid[0] * grid[1] if grid else 0)


def _unit(modality: str, encoder: Encoder, packed: Packed, grid: Tiles, size: list[int]) -> Unit:
    side, newline = encoder.side, packed.crop < 0
    role = torch.where(newline, int(Role.NEWLINE), int(Role.PATCH))
    part = _fill_forward(packed.crop)
    info: dict[str, Any] = {"boxes": _boxes(size, grid, encoder.image_size), "base_side": side}
    if grid:
        info["tile_grid"] = grid
        info["local_w"] = int(newline.nonzero()[0]) - side * side + 1
    return Unit(modality, len(part), None, part, packed.cell, role, ((side, side),) * _crops(grid), info)


def _coordinates(side: int, grid: Tiles) -> Tensor:
    """Row, column in the stitched map and a flag for tiles, of every patch: double [crops, N, 3]."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    inside = torch.stack([y, x, torch.zeros_like(y)], -1).reshape(1, side * side, 3)
    if grid is None:
        return inside.double()
    down, right = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    shift = torch.stack([down * side, right * side, torch.ones_like(down)], -1).reshape(-1, 1, 3)
    return torch.cat([inside, inside + shift]).double()


def _origin(rows: Tensor, side: int, grid: Tiles) -> Packed:
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


def _boxes(size: list[int], grid: Tiles, side: int) -> list[tuple[float, float, float, float]]:
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
