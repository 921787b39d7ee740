"""The shapes, their colours, and text."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

from PIL import ImageDraw, ImageFont

Color = tuple[int, int, int]
_Painter = Callable[[ImageDraw.ImageDraw, int, int, int, Color], None]

COLORS: dict[str, Color] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 210, 50),
    "purple": (150, 60, 180),
    "cyan": (60, 200, 210),
}
"""Names and RGB values of the six colours."""


def _circle(draw: ImageDraw.ImageDraw, x: int, y: int, r: int, color: Color) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=color)


def _square(draw: ImageDraw.ImageDraw, x: int, y: int, r: int, color: Color) -> None:
    draw.rectangle((x - r, y - r, x + r, y + r), fill=color)


def _triangle(draw: ImageDraw.ImageDraw, x: int, y: int, r: int, color: Color) -> None:
    draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=color)


def _star(draw: ImageDraw.ImageDraw, x: int, y: int, r: int, color: Color) -> None:
    corners = []
    for i in range(10):
        reach = r if i % 2 == 0 else r * 0.42
        angle = math.pi * (i / 5 - 0.5)
        corners.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    draw.polygon(corners, fill=color)


def _cross(draw: ImageDraw.ImageDraw, x: int, y: int, r: int, color: Color) -> None:
    arm = max(2, r // 3)
    draw.rectangle((x - r, y - arm, x + r, y + arm), fill=color)
    draw.rectangle((x - arm, y - r, x + arm, y + r), fill=color)


def _ring(draw: ImageDraw.ImageDraw, x: int, y: int, r: int, color: Color) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), outline=color, width=max(2, r // 3))


_PAINTERS: dict[str, _Painter] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
SHAPES: tuple[str, ...] = tuple(_PAINTERS)
"""Names of the six shapes."""


def shade(rng: random.Random, color: str) -> Color:
    """RGB value near the named colour, each channel up to 18 away."""
    red, green, blue = (min(255, max(0, c + rng.randint(-18, 18))) for c in COLORS[color])
    return red, green, blue


def draw_shape(draw: ImageDraw.ImageDraw, shape: str, x: int, y: int, radius: int, fill: Color) -> None:
    """Draw ``shape`` centred at pixel ``(x, y)``."""
    _PAINTERS[shape](draw, x, y, radius, fill)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own typeface at ``size`` pixels."""
    return ImageFont.load_default(size)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Width of ``text`` and height of its capitals, in pixels."""
    left, _, right, _ = font(size).getbbox(text)
    return math.ceil(right - left), size


def draw_text(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, size: int, white: bool) -> None:
    """Write ``text`` centred at pixel ``(x, y)``: white with a black outline, or the other way round."""
    light, dark = (250, 250, 250), (10, 10, 10)
    fill, edge = (light, dark) if white else (dark, light)
    draw.text((x, y), text, fill=fill, anchor="mm", font=font(size), stroke_width=1, stroke_fill=edge)
