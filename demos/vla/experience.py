"""Training states: tables on which a clumsy expert is at work, with what the expert would do for every task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .drawing import SIDE, draw_table
from .expert import expert_action
from .table import HALF, MARGIN, PLATE, Table, random_table
from .words import DIMENSIONS, FIRST_BIN, NAMES, TEXT_LENGTH, Task, bins_of, encode

KINDS = 1 + len(NAMES)
"""What may lie under an image token: nothing, or one of the things that have names."""
HANDS = 3
"""No gripper, an open one, a closed one."""
SLOT = TEXT_LENGTH + len(DIMENSIONS)
SLIP, JUMP, CHANGE = 0.1, 0.3, 0.04
"""How often the expert moves at random, finds its gripper elsewhere, gets another task."""


@dataclass
class Lessons:
    """States with several tasks each.

    Parameters
    ----------
    images : Tensor uint8 [B, S, S, 3]
    slots : LongTensor [B, Q * SLOT]
        Instructions with markers and the expert's action tokens.
    kinds, hands : LongTensor [B, N]
        What lies under each image token.
    places : Tensor float32 [B, N, 4]
        Centre of the thing and of the gripper under each image token, in [-1, 1]; NaN where there is none.
    goals : Tensor float32 [B, Q, 8]
        For each task: where the object and the plate lie, where the gripper has to go and where it is, in [-1, 1].
    """

    images: torch.Tensor
    slots: torch.Tensor
    kinds: torch.Tensor
    hands: torch.Tensor
    places: torch.Tensor
    goals: torch.Tensor

    def sample(self, rng: np.random.Generator, count: int) -> torch.Tensor:
        """Draw ``count`` image tokens per picture, all that show something first: LongTensor [B, count], ascending."""
        shown = (self.kinds > 0) | (self.hands > 0)
        lots = torch.from_numpy(rng.random(shown.shape)) + shown
        return lots.topk(count, 1).indices.sort(1).values


def _centres(grid: int) -> np.ndarray:
    axis = (np.arange(grid) + 0.5) / grid
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)  # raster order, x first


def dense_targets(table: Table, grid: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kinds [N], hands [N] and places [N, 4] of the tokens of a grid."""
    cells, near = _centres(grid), 0.25 / grid
    kinds, hands = np.zeros(len(cells), np.int64), np.zeros(len(cells), np.int64)
    places = np.full((len(cells), 4), np.nan, np.float32)
    for thing in (*table.plates, *table.items):
        half = PLATE if thing.shape == "plate" else HALF
        under = np.abs(cells - thing.at).max(1) < half + near
        kinds[under] = 1 + NAMES.index(f"{thing.color} {thing.shape}")
        places[under, :2] = thing.at * 2 - 1
    under = np.abs(cells - table.hand).max(1) < HALF + near
    hands[under] = 2 if table.closed else 1
    places[under, 2:] = table.hand * 2 - 1
    return kinds, hands, places


class School:
    """Many tables at once, at different moments of their episodes.

    Parameters
    ----------
    seed : int
    tables : int
    grid : int
        Image tokens per side.
    tasks : int
        Tasks asked about each state.
    """

    def __init__(self, seed: int, tables: int = 256, grid: int = 12, tasks: int = 6) -> None:
        self.rng = np.random.default_rng(seed)
        self.grid, self.tasks = grid, tasks
        self.pairs = [random_table(self.rng) for _ in range(tables)]

    def draw(self, count: int) -> Lessons:
        """Let the expert act on ``count`` of the tables, and look at them."""
        chosen = self.rng.choice(len(self.pairs), count, replace=False)
        rows = [self._look(*self._advance(int(i))) for i in chosen]
        images, slots, kinds, hands, places, goals = (np.stack(column) for column in zip(*rows, strict=True))
        tensors = [torch.from_numpy(a) for a in (images, slots.reshape(count, -1), kinds, hands, places, goals)]
        return Lessons(*tensors)

    def _advance(self, i: int) -> tuple[Table, Task]:
        table, task = self.pairs[i]
        if table.done(task):
            self.pairs[i] = table, task = random_table(self.rng)
            return table, task
        luck = self.rng.random(3)
        if luck[0] < CHANGE:
            task = self._tasks(table, task)[-1]
        if luck[1] < JUMP:
            self._jump(table, task)
        elif luck[2] < SLIP:
            table.act(self.rng.uniform(-1, 1, 3))
        else:
            table.act(expert_action(table, task))
        self.pairs[i] = table, task
        return table, task

    def _jump(self, table: Table, task: Task) -> None:
        """Put the gripper near where it has to go, near something else, or anywhere; what it holds comes along."""
        index, plate = table.find(task)
        goal = plate if table.held == index else table.items[index]
        things = [goal, *table.items, *table.plates]
        chosen = things[0 if self.rng.random() < 0.6 else self.rng.integers(len(things))]
        at = chosen.at + self.rng.normal(0, 0.06, 2)
        at = at if self.rng.random() < 0.8 else self.rng.uniform(MARGIN, 1 - MARGIN, 2)
        table.hand = np.clip(at, 0.02, 0.98)
        if table.held >= 0:
            table.items[table.held].at = table.hand.copy()

    def _tasks(self, table: Table, task: Task) -> list[Task]:
        """The task at hand, those with what the gripper holds, and others; repeated when there are too few."""
        every = [Task(i.color, i.shape, p.color) for i in table.items for p in table.plates]
        held = table.items[table.held] if table.held >= 0 else None
        first = [t for t in every if t == task or (held and (t.color, t.shape) == (held.color, held.shape))]
        others = [t for t in every if t not in first]
        found = first + [others[i] for i in self.rng.permutation(len(others))]
        return (found * 2)[: self.tasks]

    def _look(self, table: Table, task: Task) -> tuple[np.ndarray, ...]:
        slots, goals = [], []
        for asked in self._tasks(table, task):
            index, plate = table.find(asked)
            item = table.items[index].at
            goal = plate.at if table.held == index else item
            goals.append(np.concatenate([item, plate.at, goal, table.hand]) * 2 - 1)
            slots.append(np.concatenate([encode(asked.text), bins_of(expert_action(table, asked)) + FIRST_BIN]))
        image = np.array(draw_table(table, SIDE))
        return (image, np.stack(slots), *dense_targets(table, self.grid), np.stack(goals).astype(np.float32))
