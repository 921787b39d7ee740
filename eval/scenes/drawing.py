"""The shapes and the paper they lie on."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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


def draw_shape(draw: ImageDraw.ImageDraw, shape: str, x: int, y: int, radius: int, color: str) -> None:
    """Draw ``shape`` in the named ``color``, centred at pixel ``(x, y)``."""
    _PAINTERS[shape](draw, x, y, radius, COLORS[color])


@functools.cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(22)


def draw_number(draw: ImageDraw.ImageDraw, text: str, x: int, y: int, white: bool) -> None:
    """Write ``text`` centred at pixel ``(x, y)``, in white or black."""
    draw.text((x, y), text, fill=(255, 255, 255) if white else (0, 0, 0), anchor="mm", font=_font())


def background(rng: random.Random, size: int) -> Image.Image:
    """Greyish paper of ``size`` x ``size`` pixels: a tint, a vertical gradient and fine noise."""
    grey = rng.randint(90, 190)
    tint = grey + np.array([rng.randint(-25, 25) for _ in range(3)])
    noise = np.random.RandomState(rng.randint(0, 2**31 - 1))
    slope = np.linspace(-20, 20, size) * rng.choice([-1, 1])
    pixels = tint[None, None, :] + slope[:, None, None] + noise.randn(size, size, 1) * 8
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
