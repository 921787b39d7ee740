"""Pictures of a table, seen from above."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .table import HALF, PLATE, Table

SIDE = 96
"""Pixels per side of what the policy sees."""
SMOOTH = 3
PAINT = {
    "red": (214, 48, 42),
    "green": (44, 150, 62),
    "blue": (38, 84, 200),
    "yellow": (236, 196, 30),
    "purple": (150, 60, 170),
}
INK = (25, 25, 25)
Color = tuple[int, int, int]


def _box(at: np.ndarray, half: float, side: int) -> list[float]:
    x, y = at * side
    return [x - half * side, y - half * side, x + half * side, y + half * side]


def _hand(draw: ImageDraw.ImageDraw, table: Table, side: int) -> None:
    """Four fingers around the centre: apart when open, else touching a ring."""
    x, y = table.hand * side
    width = max(1, round(0.018 * side))
    far, near = (0.075, 0.03) if table.closed else (0.105, 0.06)
    far, near = far * side, near * side
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        draw.line([x + dx * near, y + dy * near, x + dx * far, y + dy * far], fill=INK, width=width)
    if table.closed:
        draw.ellipse(_box(table.hand, 0.032, side), outline=INK, width=width)


def draw_table(table: Table, side: int = SIDE) -> Image.Image:
    """Draw the table, ``side`` x ``side`` pixels; plates are pale discs with a coloured rim."""
    large = side * SMOOTH
    shade: Color = tuple(int(v) for v in table.shade)  # type: ignore[assignment]
    image = Image.new("RGB", (large, large), shade)
    draw = ImageDraw.Draw(image)
    for plate in table.plates:
        draw.ellipse(_box(plate.at, PLATE, large), fill=PAINT[plate.color])
        draw.ellipse(_box(plate.at, PLATE * 0.62, large), fill=(240, 240, 240))
    order = sorted(range(len(table.items)), key=lambda i: i == table.held)
    for item in (table.items[i] for i in order):
        paint = draw.rectangle if item.shape == "block" else draw.ellipse
        paint(_box(item.at, HALF, large), fill=PAINT[item.color], outline=INK, width=SMOOTH)
    _hand(draw, table, large)
    return image.resize((side, side), Image.Resampling.BOX)
