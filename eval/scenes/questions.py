"""Questions about a scene whose answers are known: colour, existence, counting, reading."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from .drawing import COLORS, SHAPES
from .scene import Scene, make_scene


@dataclass(frozen=True)
class Question:
    """A question of one of :data:`FAMILIES` and its exact answer."""

    family: str
    text: str
    answer: str


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
    return Question("reading", "read the number ?", scene.number.text) if scene.number else None


_MAKERS: dict[str, Callable[[Scene, random.Random], Question | None]] = {
    "attribute": _attribute,
    "existence": _existence,
    "counting": _counting,
    "reading": _reading,
}
FAMILIES: tuple[str, ...] = tuple(_MAKERS)
"""Families of questions, in the order tables show them."""


def questions(scene: Scene, seed: int) -> list[Question]:
    """Ask one question of every family the scene admits.

    Without a shape that occurs once there is no ``attribute`` question, without a number no ``reading``.

    Parameters
    ----------
    scene : Scene
    seed : int
        Chooses among the possible questions; the same seed gives the same ones.
    """
    rng = random.Random(f"{scene.seed}/{seed}")
    asked = (make(scene, rng) for make in _MAKERS.values())
    return [q for q in asked if q is not None]


def question_set(limit: int, seed: int = 0) -> list[tuple[Scene, Question]]:
    """Draw ``limit`` questions, each about a scene of its own, the families taking turns.

    Parameters
    ----------
    limit : int
        Number of questions.
    seed : int
        Sets with different seeds share no scene (up to a million scenes each).
    """
    chosen: list[tuple[Scene, Question]] = []
    number = seed * 1_000_000
    while len(chosen) < limit:
        family = FAMILIES[len(chosen) % len(FAMILIES)]
        scene = make_scene(number)
        number += 1
        found = [q for q in questions(scene, seed) if q.family == family]
        if found:
            chosen.append((scene, found[0]))
    return chosen
