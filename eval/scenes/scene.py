"""One scene: two to five shapes in the cells of a 3 x 3 board, half of the time with a two-digit number."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .drawing import COLORS, SHAPES, background, draw_number, draw_shape

SIZE = 112
"""Side of the square picture in pixels."""


@dataclass(frozen=True)
class SceneObject:
    """A shape; ``x``, ``y`` (centre) and ``radius`` are in pixels."""

    shape: str
    color: str
    x: int
    y: int
    radius: int


@dataclass(frozen=True)
class Number:
    """Two digits, centred at pixel ``(x, y)``."""

    text: str
    x: int
    y: int


@dataclass(frozen=True)
class Scene:
    """A picture (RGB, 112 x 112) and everything that is on it; ``number`` is None on half of the scenes."""

    seed: int
    image: Image.Image
    objects: tuple[SceneObject, ...]
    number: Number | None


def _cell_centre(cell: int) -> tuple[int, int]:
    side = SIZE // 3
    return (cell % 3) * side + side // 2, (cell // 3) * side + side // 2


def _random_object(rng: random.Random, cell: int) -> SceneObject:
    shape, color, radius = rng.choice(SHAPES), rng.choice(list(COLORS)), rng.randint(9, 14)
    x, y = _cell_centre(cell)
    return SceneObject(shape, color, x + rng.randint(-3, 3), y + rng.randint(-3, 3), radius)


def make_scene(seed: int) -> Scene:
    """Make scene number ``seed``: the same one on every call (and the same pixels for the same Pillow)."""
    rng = random.Random(f"scene/{seed}")
    image = background(rng, SIZE)
    draw = ImageDraw.Draw(image)
    count = rng.randint(2, 5)
    cells = rng.sample(range(9), count + 1)
    objects = tuple(_random_object(rng, cell) for cell in cells[:count])
    for item in objects:
        draw_shape(draw, item.shape, item.x, item.y, item.radius, item.color)
    number = None
    if rng.random() < 0.5:
        number = Number("".join(rng.choice("0123456789") for _ in range(2)), *_cell_centre(cells[count]))
        draw_number(draw, number.text, number.x, number.y, white=rng.random() < 0.5)
    return Scene(seed, image, objects, number)
