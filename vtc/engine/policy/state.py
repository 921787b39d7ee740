"""Slots of a memory: one per environment, kept outside of the modules."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class State:
    """Memory of one policy over the calls of an episode.

    Attributes
    ----------
    rows : dict of int to dict
        Slot of every environment; environment b is row b of the batch.
    layouts : dict of int to tuple
        Prompt length and places and shapes of the images of every environment, as the last call saw them.
    environments : int
        Rows of the last call; 0 before the first.
    pending : object or None
        The policy call that is still running, or whose end nobody has seen yet.
    """

    rows: dict[int, dict] = field(default_factory=dict)
    layouts: dict[int, tuple] = field(default_factory=dict)
    environments: int = 0
    pending: Any = None
    stops: tuple[int, ...] = ()
    """Ids that end generated actions."""
    prompts: int | None = None
    """Prompts that may still come in the policy call that was announced; None: none was."""

    def settle(self) -> None:
        """Write what the last policy call has shown into the slots."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.finish(self)

    def forget(self, rows: Sequence[int] | None = None) -> None:
        """Empty the slots of ``rows``, all when None; what the running call still shows of them does not count."""
        if rows is None:
            self.rows, self.layouts, self.environments, self.pending = {}, {}, 0, None
            return
        for row in rows:
            self.rows.pop(row, None)
            self.layouts.pop(row, None)
            if self.pending is not None:
                self.pending.drop(row)

    def copy(self) -> State:
        """Independent copy, with the last policy call written down."""
        self.settle()
        return State(copy.deepcopy(self.rows), dict(self.layouts), self.environments)

    def _admit(self) -> None:
        if self.prompts == 0:
            raise ValueError(
                "A second prompt with images inside one policy call: without a cache (use_cache=False) every token "
                "would count as a call of its own. Use a cache, and run one observation per policy call."
            )
        self.prompts = None if self.prompts is None else self.prompts - 1

    def begin(self, layouts: dict[int, tuple], environments: int) -> None:
        """Note what a policy call brings; slots that were filled from other prompts are emptied with a warning.

        Without a reset between two episodes the memory would describe a scene that is gone. What can be noticed is a
        changed length of the prompt, another layout of its images, and another number of environments, after which
        rows cannot be told apart: all slots are emptied then.
        """
        self._admit()
        self.settle()
        if any(self.rows.values()) and environments != self.environments:
            _warn(
                f"{environments} environments (rows) instead of {self.environments}: rows can no longer be told apart, "
                "so the memory of all of them was cleared."
            )
            self.forget()
        changed = [
            row for row, layout in layouts.items() if self.layouts.get(row, layout) != layout and self.rows.get(row)
        ]
        if changed:
            _warn(
                f"The prompt length or image layout of environment {', '.join(map(str, changed))} changed without a "
                "reset: its memory of earlier calls was cleared."
            )
            self.forget(changed)
        self.layouts.update(layouts)
        self.environments = environments


def _warn(what: str) -> None:
    remedy = "Call handle.reset() at every episode start, handle.reset(mask) for single environments."
    warnings.warn(f"{what} {remedy}", UserWarning, stacklevel=2)


def checked(state: object) -> State:
    """Raise a TypeError unless this is a memory."""
    if not isinstance(state, State):
        raise TypeError(f"{type(state).__name__} is no memory of a handle; pass what handle.memory.save() returned.")
    return state
