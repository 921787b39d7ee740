"""The table as an environment for gymnasium."""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np

from .drawing import SIDE, draw_table
from .table import random_table
from .words import DIMENSIONS

MAX_STEPS = 40


class PickPlaceEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Put one of several objects on one of two plates.

    Observations are ``image`` (uint8 [96, 96, 3], from above) and ``instruction`` (words); actions are float32 [3] in
    [-1, 1]: movement right, movement down, gripper (-1 opens, 1 closes). The reward is 1 in the step in which the
    object comes to lie on the plate, which ends the episode; after ``MAX_STEPS`` steps it is cut short. ``info`` says
    whether it was a ``success``.

    Parameters
    ----------
    render_mode : {"rgb_array"}, optional
    size : int
        Side in pixels of what :meth:`render` returns.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, render_mode: str | None = None, size: int = 288) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode={render_mode!r} is not allowed; pass 'rgb_array' or None.")
        self.render_mode, self.size = render_mode, size
        letters = string.ascii_lowercase + " "
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
                "instruction": gymnasium.spaces.Text(64, charset=letters),
            }
        )
        self.action_space = gymnasium.spaces.Box(-1, 1, (len(DIMENSIONS),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay a new table; the same one for the same seed."""
        super().reset(seed=seed)
        self.table, self.task = random_table(self.np_random)
        self.steps = 0
        return self._observe(), {"success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Act once."""
        self.table.act(np.asarray(action, np.float64))
        self.steps += 1
        success = self.table.done(self.task)
        return self._observe(), float(success), success, self.steps >= MAX_STEPS, {"success": success}

    def render(self) -> np.ndarray:
        """Draw the table, uint8 [size, size, 3]."""
        return np.asarray(draw_table(self.table, self.size))

    def _observe(self) -> dict[str, Any]:
        return {"image": np.array(draw_table(self.table)), "instruction": self.task.text}
