"""Easy pictures: two to five shapes in the cells of a 3 x 3 board on plain paper, half with a two-digit number.

The interim tiny-llava was trained on these; the scenes of :mod:`vtc.eval.scenes.scene` are harder.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from .drawing import COLORS, SHAPES, draw_shape, font
from .questions import Makers, Question, ask
from .scene import Scene, SceneObject, Text

BOARD_SIZE = 112
"""Side of the square picture in pixels."""
_TYPE_SIZE = 22


def _paper(rng: random.Random) -> Image.Image:
    grey = rng.randint(90, 190)
    tint = grey + np.array([rng.randint(-25, 25) for _ in range(3)])
    noise = np.random.RandomState(rng.randint(0, 2**31 - 1))
    slope = np.linspace(-20, 20, BOARD_SIZE) * rng.choice([-1, 1])
    pixels = tint[None, None, :] + slope[:, None, None] + noise.randn(BOARD_SIZE, BOARD_SIZE, 1) * 8
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _cell_centre(cell: int) -> tuple[int, int]:
    side = BOARD_SIZE // 3
    return (cell % 3) * side + side // 2, (cell // 3) * side + side // 2


def _random_object(rng: random.Random, cell: int) -> SceneObject:
    shape, color, radius = rng.choice(SHAPES), rng.choice(list(COLORS)), rng.randint(9, 14)
    x, y = _cell_centre(cell)
    return SceneObject(shape, color, x + rng.randint(-3, 3), y + rng.randint(-3, 3), radius)


def make_scene(seed: int) -> Scene:
    """Make board number ``seed``: the same one on every call (and the same pixels for the same Pillow)."""
    rng = random.Random(f"scene/{seed}")
    image = _paper(rng)
    draw = ImageDraw.Draw(image)
    count = rng.randint(2, 5)
    cells = rng.sample(range(9), count + 1)
    objects = tuple(_random_object(rng, cell) for cell in cells[:count])
    for item in objects:
        draw_shape(draw, item.shape, item.x, item.y, item.radius, COLORS[item.color])
    if rng.random() >= 0.5:
        return Scene(seed, image, objects)
    text = "".join(rng.choice("0123456789") for _ in range(2))
    number = Text(text, *_cell_centre(cells[count]), _TYPE_SIZE)
    fill = (255, 255, 255) if rng.random() < 0.5 else (0, 0, 0)
    draw.text((number.x, number.y), text, fill=fill, anchor="mm", font=font(_TYPE_SIZE))
    return Scene(seed, image, objects, (number,))


def _attribute(scene: Scene, rng: random.Random) -> Question | None:
    shapes = [o.shape for o in scene.objects]
    single = [o for o in scene.objects if shapes.count(o.shape) == 1]
    if not single:
        return None
    chosen = rng.choice(single)
    return Question("attribute", f"what color is the {chosen.shape} ?", chosen.color)


def _existence(scene: Scene, rng: random.Random) -> Question:
    present = sorted({(o.shape, o.color) for o in scene.objects})
    if rng.random() < 0.5:
        shape, color = rng.choice(present)
        return Question("existence", f"is there a {color} {shape} ?", "yes")
    while True:
        # half of the absent ones share their shape with an object: the shape alone must not give them away
        shape, color = rng.choice(SHAPES), rng.choice(list(COLORS))
        shape = rng.choice(scene.objects).shape if rng.random() < 0.5 else shape
        if (shape, color) not in present:
            return Question("existence", f"is there a {color} {shape} ?", "no")


def _counting(scene: Scene, rng: random.Random) -> Question:
    colors = [o.color for o in scene.objects]
    color = rng.choice([*colors, *list(COLORS)[:2]])
    return Question("counting", f"how many {color} objects ?", str(colors.count(color)))


def _reading(scene: Scene, rng: random.Random) -> Question | None:
    return Question("reading", "read the number ?", scene.texts[0].text) if scene.texts else None


_MAKERS: Makers = {
    "attribute": _attribute,
    "existence": _existence,
    "counting": _counting,
    "reading": _reading,
}
FAMILIES: tuple[str, ...] = tuple(_MAKERS)
"""Families of questions about boards, in the order tables show them."""


def questions(scene: Scene, seed: int) -> list[Question]:
    """Ask one question of every family the board admits; the same ``seed`` gives the same ones."""
    return ask(_MAKERS, scene, seed)


def board_family(family: str, seed: int = 0) -> Iterator[tuple[Scene, Question]]:
    """Yield questions of one of :data:`FAMILIES`, each about a board of its own, without end.

    Streams of other families, and those with other seeds (0 to 899), show other boards.
    """
    for number in itertools.count(seed * 1_000_000 + FAMILIES.index(family) * 100_000):
        scene = make_scene(number)
        for question in questions(scene, seed):
            if question.family == family:
                yield scene, question


def question_set(limit: int, seed: int = 0) -> list[tuple[Scene, Question]]:
    """Draw ``limit`` questions, each about a board of its own, the families taking turns.

    Parameters
    ----------
    limit : int
        Number of questions.
    seed : int
        0 to 899. Sets with different seeds share no board.
    """
    streams = [board_family(family, seed) for family in FAMILIES]
    return [next(streams[i % len(streams)]) for i in range(limit)]
