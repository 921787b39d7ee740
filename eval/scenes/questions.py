"""Questions about a picture whose answers are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .drawing import COLORS, SHAPES
from .scene import Scene, SceneObject, make_scene


@dataclass(frozen=True)
class Question:
    """A question of one of :data:`IMAGE_FAMILIES` and its exact answer."""

    family: str
    text: str
    answer: str


PLURALS = {shape: shape + ("es" if shape == "cross" else "s") for shape in SHAPES}


def _attribute(scene: Scene, rng: random.Random) -> Question | None:
    shapes, colors = [o.shape for o in scene.objects], [o.color for o in scene.objects]
    asked = [(f"what color is the {o.shape} ?", o.color) for o in scene.objects if shapes.count(o.shape) == 1]
    asked += [(f"what shape is the {o.color} object ?", o.shape) for o in scene.objects if colors.count(o.color) == 1]
    return Question("attribute", *rng.choice(asked)) if asked else None


def _existence(scene: Scene, rng: random.Random) -> Question | None:
    if not scene.objects:
        return None
    present = sorted({(o.shape, o.color) for o in scene.objects})
    if rng.random() < 0.5:
        shape, color = rng.choice(present)
        return Question("existence", f"is there a {color} {shape} ?", "yes")
    while True:
        # most absent ones share shape or colour with an object: neither alone must give them away
        shape, color = rng.choice(SHAPES), rng.choice(list(COLORS))
        share = rng.random()
        shape = rng.choice(scene.objects).shape if share < 0.6 else shape
        color = rng.choice(scene.objects).color if 0.4 < share else color
        if (shape, color) not in present:
            return Question("existence", f"is there a {color} {shape} ?", "no")


def _counting(scene: Scene, rng: random.Random) -> Question | None:
    if not scene.objects:
        return None
    way = rng.random()
    if way < 0.2:
        return Question("counting", "how many objects ?", str(len(scene.objects)))
    if way < 0.6:
        colors = [o.color for o in scene.objects]
        color = rng.choice([*sorted(set(colors)), rng.choice(list(COLORS))])
        return Question("counting", f"how many {color} objects ?", str(colors.count(color)))
    shapes = [o.shape for o in scene.objects]
    shape = rng.choice([*sorted(set(shapes)), rng.choice(SHAPES)])
    return Question("counting", f"how many {PLURALS[shape]} ?", str(shapes.count(shape)))


def _name(o: SceneObject) -> str:
    return f"{o.color} {o.shape}"


def _spatial(scene: Scene, rng: random.Random) -> Question | None:
    names = [_name(o) for o in scene.objects]
    single = [o for o in scene.objects if names.count(_name(o)) == 1]
    if len(single) < 2:
        return None
    a, b = rng.sample(single, 2)
    dx, dy = b.x - a.x, b.y - a.y
    ways = [(f"is the {_name(a)} left or right of the {_name(b)} ?", "left" if dx > 0 else "right")] * (abs(dx) >= 20)
    ways += [(f"is the {_name(a)} above or below the {_name(b)} ?", "above" if dy > 0 else "below")] * (abs(dy) >= 20)
    return Question("spatial", *rng.choice(ways)) if ways else None


def _reading(scene: Scene, rng: random.Random) -> Question | None:
    if not scene.texts:
        return None
    chosen = rng.choice(scene.texts)
    return Question("reading", f"read the {'number' if chosen.is_number else 'word'} ?", chosen.text)


def _chart(scene: Scene, rng: random.Random) -> Question | None:
    if not scene.bars:
        return None
    values = sorted(bar.value for bar in scene.bars)
    extremes = [("highest", values[-1])] * (values[-1] > values[-2]) + [("lowest", values[0])] * (values[0] < values[1])
    if extremes and rng.random() < 0.35:
        word, value = rng.choice(extremes)
        return Question("chart", f"which bar is the {word} ?", next(b.color for b in scene.bars if b.value == value))
    bar = rng.choice(scene.bars)
    return Question("chart", f"what is the value of the {bar.color} bar ?", str(bar.value))


MAKERS: dict[str, Callable[[Scene, random.Random], Question | None]] = {
    "attribute": _attribute,
    "existence": _existence,
    "counting": _counting,
    "spatial": _spatial,
    "reading": _reading,
    "chart": _chart,
}
IMAGE_FAMILIES: tuple[str, ...] = tuple(MAKERS)
"""Families of questions about pictures, in the order tables show them."""


def scene_questions(scene: Scene, seed: int) -> list[Question]:
    """Ask one question of every family the scene admits.

    Parameters
    ----------
    scene : Scene
    seed : int
        Chooses among the possible questions; the same seed gives the same ones.
    """
    rng = random.Random(f"{scene.seed}/{seed}")
    asked = (make(scene, rng) for make in MAKERS.values())
    return [q for q in asked if q is not None]


def image_questions(family: str, seed: int = 0) -> Iterator[tuple[Scene, Question]]:
    """Yield questions of one family, each about a scene of its own, without end.

    Parameters
    ----------
    family : str
        One of :data:`IMAGE_FAMILIES`.
    seed : int
        0 to 899. Streams with different seeds share no scene.
    """
    number = seed * 1_000_000 + IMAGE_FAMILIES.index(family) * 100_000
    while True:
        scene = make_scene(number)
        found = [q for q in scene_questions(scene, seed) if q.family == family]
        number += 1
        if found:
            yield scene, found[0]
