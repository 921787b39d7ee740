"""Sheets: pictures in rows with captions, and a legend below that grows with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vtc.media.limits import DRAWING_SIDE

from .fate import Fate, Mode
from .geometry import GAP, Sheet, caption_height, fitted, font_size
from .palette import INK, OKABE_ITO, OUTLINE, PAPER, viridis

Colour = tuple[int, int, int]
Swatch: TypeAlias = "Colour | str"
Item: TypeAlias = "tuple[Swatch | None, str]"
_BAR = "bar"
_GREY, _DARK = (120, 120, 120), (50, 50, 50)


@dataclass(frozen=True)
class Grid:
    """Places of equally large cells: ``columns`` to a row, ``caption`` pixels above each picture."""

    count: int
    columns: int
    width: int
    height: int
    caption: int = 0

    @classmethod
    def of(cls, sizes: Sequence[tuple[int, int]], columns: int | None = None, caption: bool = False) -> Grid:
        """Grid for pictures of about the same size; see :class:`Sheet` for how many come in a row."""
        width, height = max(w for w, _ in sizes), max(h for _, h in sizes)
        wanted = Sheet(columns=columns).in_a_row(len(sizes))
        return cls(len(sizes), wanted, width, height, caption_height(width) if caption else 0)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        rows = math.ceil(self.count / self.columns)
        return self.columns * (self.width + GAP) - GAP, rows * (self.height + self.caption + GAP) - GAP

    def place(self, i: int) -> tuple[int, int]:
        """Left and top of picture ``i``."""
        row, col = divmod(i, self.columns)
        return col * (self.width + GAP), row * (self.height + self.caption + GAP) + self.caption


def lay_out(
    pictures: Sequence[Image.Image], columns: int | None = None, captions: Sequence[str] | None = None
) -> Image.Image:
    """Paste pictures into a :class:`Grid`."""
    grid = Grid.of([p.size for p in pictures], columns, captions is not None)
    sheet = Image.new("RGB", grid.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        left, top = grid.place(i)
        sheet.paste(picture, (left, top))
        if captions is not None:
            font = fitting(captions[i], grid.width - 8, font_size(grid.width))
            draw.text((left + 4, top - grid.caption // 2), captions[i], INK, font, "lm")
    return sheet


def shown(frames: Sequence[Image.Image]) -> Image.Image:
    """Pictures side by side as they are, within the size of a drawing."""
    cell = Sheet.of(DRAWING_SIDE).cell(len(frames))
    return lay_out([fitted(frame, cell) for frame in frames])


def fitting(text: str, width: int, size: int) -> Any:
    """Font of the largest size up to ``size`` in which ``text`` is at most ``width`` wide (never under 8)."""
    font = ImageFont.load_default(size)
    while size > 8 and font.getlength(text) > width:
        size -= 1
        font = ImageFont.load_default(size)
    return font


def counted(record: Any) -> str:
    """``16 of 64 tokens (25 %)``."""
    share = 100 * record.after / max(record.before, 1)
    return f"{record.after} of {record.before} tokens ({share:.3g} %)"


def legend_items(record: Any, mode: Mode, alone: bool = True) -> list[Item]:
    """Explain the colours of a mode; ``alone`` adds the numbers of the record."""
    fate = Fate.of(record)
    items: list[Item] = [(None, counted(record))] if alone else []
    if mode == "kept":
        items.append((OUTLINE, "kept"))
        items += [(_GREY, "merged into them")] if fate.merged.any() else []
        items += [(_DARK, "dropped")] if (~fate.kept & ~fate.merged).any() else []
    elif mode == "scores":
        assert fate.scores is not None
        known = fate.scores[np.isfinite(fate.scores)]
        low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
        items.append((_BAR, "rank of the score" + (f" ({low:.3g} to {high:.3g})" if alone else "")))
    elif mode == "order":
        items += [(_BAR, "last to first choice"), (_DARK, "dropped")]
    else:
        items += [(OKABE_ITO[0], "one group"), ("dot", "its survivor")]
    return items


def with_legend(sheet: Image.Image, items: Sequence[Item]) -> Image.Image:
    """Append a legend, in as many lines as its items need."""
    size = font_size(sheet.width)
    font = ImageFont.load_default(size)
    lines: list[list[Item]] = [[]]
    used = 0.0
    for item in items:
        need = _item_width(item, font, size)
        if lines[-1] and used + need > sheet.width - size:
            lines.append([])
            used = 0.0
        lines[-1].append(item)
        used += need
    step = round(1.7 * size)
    out = Image.new("RGB", (sheet.width, sheet.height + step * len(lines) + size // 3), PAPER)
    out.paste(sheet, (0, 0))
    for i, line in enumerate(lines):
        _draw_line(out, line, sheet.height + size // 6 + step * i + step // 2, size)
    return out


def _item_width(item: Item, font: Any, size: int) -> float:
    swatch = 0.0 if item[0] is None else (5.5 if item[0] == _BAR else 1.5) * size
    return swatch + font.getlength(item[1]) + size


def _draw_line(out: Image.Image, line: Sequence[Item], middle: int, size: int) -> None:
    draw, font, x = ImageDraw.Draw(out), ImageFont.load_default(size), size / 2
    half = round(0.4 * size)
    for swatch, text in line:
        at = round(x)
        if swatch == _BAR:
            bar = np.repeat(viridis(np.linspace(0, 1, 5 * size))[None], 2 * half, axis=0)
            out.paste(Image.fromarray(bar), (at, middle - half))
            x += 5.5 * size
        elif swatch == "dot":
            draw.ellipse((at, middle - half, at + 2 * half, middle + half), "white", "black")
            x += 1.5 * size
        elif swatch is not None:
            draw.rectangle((at, middle - half, at + 2 * half, middle + half), swatch, INK)
            x += 1.5 * size
        # a line that is longer than a narrow picture is written smaller
        small = fitting(text, round(out.width - x), size)
        draw.text((x, middle), text, INK, small, "lm")
        x += font.getlength(text) + size
