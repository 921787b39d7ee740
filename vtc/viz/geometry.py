"""Where tokens lie on pictures: panels for overlapping tiles and frames, and the token behind every pixel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image

from vtc.media.depth import as_rgb
from vtc.media.limits import LEAST_DRAWING_SIDE

if TYPE_CHECKING:
    from ..core.layout import Unit

Box = tuple[float, float, float, float]
Frames: TypeAlias = "Image.Image | Sequence[Image.Image]"
GAP = 6
_LEGEND, _LEAST_LEGEND = 1 / 16, 100  # left for a legend below: this share of a side, but so many pixels
_LEAST_CELL = 16
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Panel:
    """One picture with the partitions (tiles, or one frame) drawn on it.

    Attributes
    ----------
    image : PIL.Image.Image
        RGB.
    parts : tuple of (partition, box)
        Boxes are fractions (left, top, right, bottom) of the picture and may reach beyond it, into padding.
    tokens : int array [height, width]
        Index inside the unit of the token behind every pixel, -1 where there is none.
    """

    image: Image.Image
    parts: tuple[tuple[int, Box], ...]
    tokens: np.ndarray


@dataclass(frozen=True)
class Sheet:
    """How pictures are laid out: ``columns`` to a row (None: chosen by number), with captions or without.

    Attributes
    ----------
    box : (width, height) or None
        Pixels all pictures together may take; None: any number.
    """

    box: tuple[int, int] | None = None
    columns: int | None = None
    captions: bool = False

    @classmethod
    def of(cls, side: int | None, columns: int | None = None, captions: bool = False) -> Sheet:
        """Sheet of a drawing of at most ``side`` pixels a side, room for a legend included."""
        if side is None:
            return cls(None, columns, captions)
        if isinstance(side, bool) or not isinstance(side, int) or side < LEAST_DRAWING_SIDE:
            raise ValueError(
                f"side={side!r} is not allowed: pass a whole number of pixels from {LEAST_DRAWING_SIDE} on, or None "
                "for no limit."
            )
        return cls((side, side - max(_LEAST_LEGEND, round(_LEGEND * side))), columns, captions)

    def in_a_row(self, count: int) -> int:
        """Pictures in a row: up to four, and more where there would be many more rows than columns."""
        wanted = min(count, max(4, math.ceil(math.sqrt(count))) if self.columns is None else self.columns)
        if wanted < 1:
            raise ValueError(f"columns={self.columns} is not allowed; pass a number of at least 1.")
        return wanted

    def cell(self, count: int) -> tuple[int, int] | None:
        """Width and height that each of ``count`` pictures may have."""
        if self.box is None:
            return None
        columns = self.in_a_row(count)
        rows = math.ceil(count / columns)
        width = (self.box[0] + GAP) // columns - GAP
        height = (self.box[1] + GAP) // rows - GAP - (caption_height(width) if self.captions else 0)
        if min(width, height) < _LEAST_CELL:
            raise ValueError(
                f"{count} pictures, {columns} in a row, do not fit into a drawing of {self.box[0]} pixels a side: draw "
                "fewer of them, or pass a larger side=... or other columns=... ."
            )
        return width, height


def font_size(width: int) -> int:
    """Size of letters that are read on a picture of this width: 14 at 400 pixels, 43 at 4k."""
    return max(12, round(0.7 * math.sqrt(max(width, 1))))


def caption_height(width: int) -> int:
    """Pixels above a picture of this width for its caption."""
    return round(1.7 * font_size(width))


def panels(image: Frames, unit: Unit, sheet: Sheet) -> list[Panel]:
    """Spread the partitions of a unit over as few pictures as possible without overlap on any of them.

    A video has one panel per temporal patch: frame p of the sequence is shown behind partition p, the last one is
    repeated. Pictures are scaled so that all panels fit into the sheet.
    """
    frames = [image] if isinstance(image, Image.Image) else list(image)
    if not frames:
        raise ValueError("There is no picture to draw on: pass one image, or at least one frame.")
    unit = unit.filled()
    boxes: list[Box] = list(unit.info.get("boxes") or [_WHOLE] * len(unit.part_grids))
    groups = _groups(unit, boxes)
    cell = sheet.cell(len(groups))
    shown = [fitted(frame, cell) for frame in (frames[: len(groups)] if unit.modality == "video" else frames[:1])]
    return [
        _panel(shown[min(i, len(shown) - 1)], tuple((p, boxes[p]) for p in group), unit)
        for i, group in enumerate(groups)
    ]


def _groups(unit: Unit, boxes: list[Box]) -> list[list[int]]:
    """Partitions that share a panel: those of tiles that do not overlap; of a video every one has its own."""
    count = len(unit.part_grids)
    if unit.modality == "video":
        return [[p] for p in range(count)]
    groups: list[list[int]] = []
    for p in range(count):
        free = [g for g in groups if not any(_overlap(boxes[p], boxes[q]) for q in g)]
        if free:
            free[0].append(p)
        else:
            groups.append([p])
    return groups


def fitted(image: Image.Image, cell: tuple[int, int] | None) -> Image.Image:
    """Picture as RGB, a small one blown up, a large one scaled down to fit into a cell (width, height)."""
    image = enlarged(as_rgb(image))
    if cell is None or (image.width <= cell[0] and image.height <= cell[1]):
        return image
    image = image.copy()
    image.thumbnail(cell)
    return image


def _overlap(a: Box, b: Box) -> bool:
    slack = 1e-6
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return wide > slack and high > slack


def enlarged(image: Image.Image, smallest: int = 336) -> Image.Image:
    """Blow small pictures up by a whole factor, so that cells and legend can be read."""
    factor = math.ceil(smallest / max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _panel(image: Image.Image, parts: tuple[tuple[int, Box], ...], unit: Unit) -> Panel:
    tokens = np.full((image.height, image.width), -1, dtype=np.int32)
    for part, box in parts:
        height, width = unit.part_grids[part]
        rows = _cells(image.height, box[1], box[3], height)
        cols = _cells(image.width, box[0], box[2], width)
        y, x = np.flatnonzero(rows >= 0), np.flatnonzero(cols >= 0)
        if len(y) and len(x):
            # the pixels of a box are one block
            block = tokens[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
            block[...] = lattice(unit, part)[rows[y][:, None], cols[x][None, :]]
    return Panel(image, parts, tokens)


def _cells(pixels: int, low: float, high: float, cells: int) -> np.ndarray:
    """Cell of a box from ``low`` to ``high`` (fractions) each pixel's centre lies in, -1 outside: int [pixels]."""
    place = ((np.arange(pixels) + 0.5) / pixels - low) / (high - low) * cells
    cell = np.floor(place).astype(np.int64)
    return np.where((cell >= 0) & (cell < cells), cell, -1)


def lattice(unit: Unit, part: int) -> np.ndarray:
    """Token at every place of a partition, -1 where there is none: int [rows, columns]."""
    height, width = unit.part_grids[part]
    cell = np.asarray(unit.cell)
    mine = np.flatnonzero((np.asarray(unit.part) == part) & (cell >= 0))
    out = np.full(height * width, -1, dtype=np.int32)
    out[cell[mine]] = mine
    return out.reshape(height, width)


def token_boxes(panel: Panel, unit: Unit) -> Iterator[tuple[int, Box]]:
    """Every token of a panel with its box in pixels (left, top, right, bottom)."""
    for part, (left, top, right, bottom) in panel.parts:
        tokens = lattice(unit, part)
        rows, cols = tokens.shape
        wide = (right - left) * panel.image.width / cols
        high = (bottom - top) * panel.image.height / rows
        x0, y0 = left * panel.image.width, top * panel.image.height
        for row, col in zip(*np.nonzero(tokens >= 0), strict=True):
            place = (x0 + col * wide, y0 + row * high, x0 + (col + 1) * wide, y0 + (row + 1) * high)
            yield int(tokens[row, col]), place


def neighbours(unit: Unit) -> list[tuple[int, int]]:
    """Pairs of tokens side by side or one above the other in the same partition."""
    pairs = []
    for part in range(len(unit.part_grids)):
        tokens = lattice(unit, part)
        for a, b in ((tokens[:, :-1], tokens[:, 1:]), (tokens[:-1], tokens[1:])):
            there = (a >= 0) & (b >= 0)
            pairs += list(zip(a[there].tolist(), b[there].tolist(), strict=True))
    return pairs
