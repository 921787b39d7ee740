"""The scripted expert: looks at the state, not at the picture."""

from __future__ import annotations

import numpy as np

from .table import STEP, Table
from .words import BINS, FIRST_BIN, Task, action_of, bins_of

NEAR = 2 / (BINS - 1)
"""Along both axes at most one bin away: near enough to use the gripper."""


def expert_action(table: Table, task: Task) -> np.ndarray:
    """What to do next: float32 [3], each number the centre of a bin.

    Open the gripper when it holds nothing or the wrong object, go to the object, close, go to the plate, open.
    """
    index, plate = table.find(task)
    if table.held == index:
        goal, moving, there = plate.at, 1.0, -1.0
    elif table.closed:
        return np.array([0, 0, -1], np.float32)
    else:
        goal, moving, there = table.items[index].at, -1.0, 1.0
    way = (goal - table.hand) / STEP
    near = bool(np.abs(way).max() <= NEAR)
    action = np.array([0, 0, there] if near else [*way, moving], np.float32)
    return action_of(bins_of(action) + FIRST_BIN)
