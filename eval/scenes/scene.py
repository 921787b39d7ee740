"""One picture: objects at random places, mostly with a word or a number, or a bar chart."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from .backgrounds import background
from .drawing import COLORS, SHAPES, draw_shape, draw_text, shade, text_size
from .words import WORDS

SIZES: tuple[tuple[int, int], ...] = ((160, 160), (180, 180), (200, 200), (200, 160), (160, 200))
"""Sizes of pictures, (width, height) in pixels."""
TRAIN_SEEDS = 1_000_000_000
"""Scenes from this seed on are for training, those below for tests."""
CHART_SHARE = 0.2
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneObject:
    """A shape; ``x``, ``y`` (centre) and ``radius`` are in pixels."""

    shape: str
    color: str
    x: int
    y: int
    radius: int


@dataclass(frozen=True)
class Text:
    """A word or a two-digit number, centred at pixel ``(x, y)``; ``size`` is that of the type."""

    text: str
    x: int
    y: int
    size: int

    @property
    def is_number(self) -> bool:
        """Whether it is a number."""
        return self.text.isdigit()


@dataclass(frozen=True)
class Bar:
    """A bar of a chart: its colour, its value (1 to 9), and its box in pixels (left, top, right, bottom)."""

    color: str
    value: int
    box: Box


@dataclass(frozen=True)
class Scene:
    """A picture (RGB) and everything that is on it."""

    seed: int
    image: Image.Image
    objects: tuple[SceneObject, ...] = ()
    texts: tuple[Text, ...] = ()
    bars: tuple[Bar, ...] = field(default=())

    @property
    def kind(self) -> str:
        """``"objects"`` or ``"chart"``."""
        return "chart" if self.bars else "objects"


def _touch(a: Box, b: Box, gap: int = 3) -> bool:
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def place(rng: random.Random, size: tuple[int, int], half: tuple[float, float], taken: list[Box]) -> Box | None:
    """Find a free box of half-extent ``half`` inside the picture; None after 40 attempts."""
    for _ in range(40):
        x = rng.randint(int(half[0]) + 2, size[0] - int(half[0]) - 3)
        y = rng.randint(int(half[1]) + 2, size[1] - int(half[1]) - 3)
        box = (x - half[0], y - half[1], x + half[0], y + half[1])
        if not any(_touch(box, other) for other in taken):
            taken.append(box)
            return box
    return None


_TEXTS = ((), ("word",), ("word",), ("number",), ("number",), ("word", "number"))


def _texts(rng: random.Random, size: tuple[int, int], taken: list[Box], crowded: bool) -> tuple[Text, ...]:
    wanted = ("word", "number") * 3 if crowded else rng.choice(_TEXTS)
    found = []
    for kind in wanted:
        text = rng.choice(WORDS) if kind == "word" else str(rng.randint(10, 99))
        type_size = rng.randint(24, 32)
        width, height = text_size(text, type_size)
        box = place(rng, size, (width / 2 + 2, height / 2), taken)
        if box:
            found.append(Text(text, round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2), type_size))
    return tuple(found)


def _objects(rng: random.Random, size: tuple[int, int], taken: list[Box]) -> tuple[SceneObject, ...]:
    found: list[SceneObject] = []
    for _ in range(rng.randint(2, 5)):
        radius = rng.randint(14, 19)
        box = place(rng, size, (radius, radius), taken)
        # few colours and shapes repeat often enough by chance; a third of the objects repeat one on purpose
        shape, color = rng.choice(SHAPES), rng.choice(list(COLORS))
        if found and rng.random() < 0.3:
            color = rng.choice(found).color
        if box:
            found.append(SceneObject(shape, color, int(box[0] + radius), int(box[1] + radius), radius))
    return tuple(found)


def _draw_objects(rng: random.Random, image: Image.Image, scene_objects: tuple[SceneObject, ...]) -> None:
    draw = ImageDraw.Draw(image)
    for item in scene_objects:
        draw_shape(draw, item.shape, item.x, item.y, item.radius, shade(rng, item.color))


def _chart(rng: random.Random, image: Image.Image) -> tuple[Bar, ...]:
    width, height = image.size
    draw = ImageDraw.Draw(image)
    margin = rng.randint(4, 10)
    left, top, right, bottom = margin + 4, margin, width - margin, height - margin - 4
    paper = rng.randint(225, 255)
    draw.rectangle((left, top, right, bottom), fill=(paper, paper, paper))
    unit = (bottom - top - 6) / 9
    for value in range(0, 10, 3):
        y = bottom - value * unit
        draw.line((left, y, right, y), fill=(150, 150, 150), width=1)
    draw.line((left, top, left, bottom), fill=(20, 20, 20), width=2)
    draw.line((left, bottom, right, bottom), fill=(20, 20, 20), width=2)
    count = rng.randint(3, 5)
    step = (right - left - 6) / count
    bars = []
    for i, color in enumerate(rng.sample(list(COLORS), count)):
        value = rng.randint(1, 9)
        x = left + 5 + i * step + rng.uniform(0, 0.1) * step
        box = (x, bottom - value * unit, x + step * rng.uniform(0.6, 0.8), bottom)
        draw.rectangle(box, fill=shade(rng, color))
        bars.append(Bar(color, value, box))
    return tuple(bars)


def make_scene(seed: int, crowded: bool = False) -> Scene:
    """Make scene number ``seed``: the same one on every call (and the same pixels for the same Pillow).

    Parameters
    ----------
    seed : int
        Below :data:`TRAIN_SEEDS` for tests and demonstrations, from it on for training.
    crowded : bool
        Show up to three words and three numbers, never a chart: for the part of the training that learns to see.
    """
    rng = random.Random(f"scene/{seed}")
    size = rng.choice(SIZES)
    image = background(rng, size)
    if rng.random() < CHART_SHARE and not crowded:
        return Scene(seed, image, bars=_chart(rng, image))
    taken: list[Box] = []
    texts = _texts(rng, size, taken, crowded)
    objects = _objects(rng, size, taken)
    _draw_objects(rng, image, objects)
    draw = ImageDraw.Draw(image)
    for item in texts:
        draw_text(draw, item.text, item.x, item.y, item.size, white=rng.random() < 0.5)
    return Scene(seed, image, objects, texts)
