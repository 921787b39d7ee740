"""The state of the table and what actions do to it; lengths are shares of the table's side."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .words import COLORS, SHAPES, Task

HALF = 0.05
"""Half the side of a block, radius of a ball."""
PLATE = 0.1
"""Radius of a plate."""
REACH = 0.09
"""How far from an object's centre the gripper can still take it."""
STEP = 0.08
"""Movement per step along an axis at an action of 1."""
MARGIN = 0.1
GAPS = {("item", "item"): 0.15, ("item", "plate"): 0.19, ("plate", "plate"): 0.28}
HANDS_OFF = 0.05
"""An action's third number opens the gripper below minus this, closes it above this, and does nothing between."""


@dataclass
class Item:
    """An object to move, or a plate (``shape == "plate"``); ``at`` is its centre [2]."""

    color: str
    shape: str
    at: np.ndarray


@dataclass
class Table:
    """Everything there is.

    Attributes
    ----------
    items, plates : list of Item
        Later items lie on top.
    hand : ndarray [2]
    closed : bool
    held : int
        Index of the item in the gripper, -1 for none.
    shade : ndarray [3]
        Colour of the table, 0 to 255.
    """

    items: list[Item]
    plates: list[Item]
    hand: np.ndarray
    shade: np.ndarray = field(default_factory=lambda: np.full(3, 200.0))
    closed: bool = False
    held: int = -1

    def act(self, action: np.ndarray) -> None:
        """Move the gripper, then open or close it; what it holds moves along."""
        self.hand = np.clip(self.hand + np.clip(action[:2], -1, 1) * STEP, 0.02, 0.98)
        if action[2] > HANDS_OFF and not self.closed:
            self.closed = True
            far = [float(np.linalg.norm(item.at - self.hand)) for item in self.items]
            self.held = int(np.argmin(far)) if min(far) <= REACH else -1
        elif action[2] < -HANDS_OFF:
            self.closed, self.held = False, -1
        if self.held >= 0:
            self.items[self.held].at = self.hand.copy()

    def find(self, task: Task) -> tuple[int, Item]:
        """Index of the task's object, and its plate."""
        names = [(item.color, item.shape) for item in self.items]
        plate = next(plate for plate in self.plates if plate.color == task.plate)
        return names.index((task.color, task.shape)), plate

    def done(self, task: Task) -> bool:
        """Whether the object lies on the plate, out of the gripper."""
        index, plate = self.find(task)
        return self.held != index and float(np.linalg.norm(self.items[index].at - plate.at)) < PLATE


def _place(rng: np.random.Generator, kinds: list[str]) -> list[np.ndarray]:
    """Random centres that keep their distances; starts again when it gets stuck."""
    while True:
        found: list[np.ndarray] = []
        for kind in kinds:
            for _ in range(60):
                at = rng.uniform(MARGIN, 1 - MARGIN, 2)
                gaps = [GAPS[min(kind, k), max(kind, k)] for k in kinds[: len(found)]]
                if all(np.linalg.norm(at - other) > gap for other, gap in zip(found, gaps, strict=True)):
                    found.append(at)
                    break
        if len(found) == len(kinds):
            return found


def random_table(rng: np.random.Generator) -> tuple[Table, Task]:
    """A table with two plates, three or four objects that differ in colour or shape, and a task for it."""
    count = int(rng.integers(3, 5))
    centres = _place(rng, ["plate", "plate", *["item"] * count])
    plates = [Item(COLORS[c], "plate", centres[i]) for i, c in enumerate(rng.permutation(len(COLORS))[:2])]
    names = rng.permutation(len(COLORS) * len(SHAPES))[:count]
    items = [
        Item(COLORS[n // len(SHAPES)], SHAPES[n % len(SHAPES)], centres[i]) for i, n in enumerate(names, len(plates))
    ]
    table = Table(items, plates, rng.uniform(MARGIN, 1 - MARGIN, 2), rng.uniform(165, 215) + rng.uniform(-10, 10, 3))
    wanted = items[rng.integers(count)]
    return table, Task(wanted.color, wanted.shape, plates[rng.integers(2)].color)
