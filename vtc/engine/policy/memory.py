"""What methods remember between calls: one slot per environment, kept outside of the modules."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from ..context import settings, settings_of
from ..patch import Patch

if TYPE_CHECKING:
    from ..record import CallRecord

Mask = Sequence[bool] | Tensor


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


class Remembers(Patch, Protocol):
    """A handle, as policies see it."""

    @property
    def state(self) -> State:
        """Memory the next call reads and writes."""

    def policy_call(self, stops: Sequence[int] = ()) -> AbstractContextManager[None]:
        """Everything inside is one policy call."""


class Remembering:
    """The part of a handle that keeps the memory of methods."""

    last: CallRecord | None

    def __init__(self) -> None:
        self._state = State()

    @property
    def state(self) -> State:
        """Memory the next call reads and writes: that of the innermost :meth:`using`, else the handle's own."""
        return settings_of(self).state or self._state

    @contextmanager
    def using(self, state: State | None = None) -> Iterator[State]:
        """Run calls on ``state`` instead of the handle's own, on a new one when None.

        It holds for the calls this thread (or task) makes inside; enter it in every thread that runs a policy.
        """
        state = State() if state is None else _checked(state)
        with settings(self, state=state):
            yield state

    def save_state(self) -> State:
        """Copy of the memory between two calls, for :meth:`load_state` (rollback, planning) or :meth:`using`."""
        return self.state.copy()

    def load_state(self, state: State) -> None:
        """Go back to a saved memory; the saved one stays as it is and may be loaded again."""
        saved, now = _checked(state).copy(), self.state
        now.rows, now.layouts, now.environments, now.pending = saved.rows, saved.layouts, saved.environments, None

    @contextmanager
    def policy_call(self, stops: Sequence[int] = ()) -> Iterator[None]:
        """Everything inside is one policy call: remembered when the block ends, forgotten when it raises.

        ``generate`` of the patched model and pi0's ``sample_actions`` do this by themselves. A policy that runs its
        own loop around a patched language model may leave it out: a call then ends where the next one begins. Blocks
        may be nested; the outermost counts.

        Parameters
        ----------
        stops : sequence of int
            Token ids that end a row's actions; what is fed to a row from then on does not count.

        Raises
        ------
        ValueError
            A second prompt with images arrives inside.
        """
        state = self.state
        if state.prompts is not None:
            yield
            return
        state.settle()
        state.prompts, state.stops = 1, tuple(stops)
        try:
            yield
        except BaseException:
            state.pending = None
            raise
        finally:
            state.prompts = None
            state.settle()
            state.stops = ()

    def reset(self, mask: Mask | None = None) -> None:
        """Forget earlier calls: at the start of an episode, or where an environment starts a new one.

        Parameters
        ----------
        mask : sequence of bool or Tensor [B], optional
            Environments to reset; None: all of them, and the last record.

        Raises
        ------
        ValueError
            The mask has another length than the last batch.
        """
        if mask is None:
            self.state.forget()
            self.last = None
            return
        flags = [bool(flag) for flag in (mask.tolist() if isinstance(mask, Tensor) else mask)]
        known = self.state.environments
        if known and len(flags) != known:
            raise ValueError(
                f"mask has {len(flags)} entries, and the last call ran {known} environments: pass one each."
            )
        self.state.forget([row for row, flag in enumerate(flags) if flag])

    def row_state(self, row: int) -> dict:
        """Memory of one row."""
        return self.state.rows.setdefault(row, {})


def _checked(state: object) -> State:
    if not isinstance(state, State):
        raise TypeError(f"{type(state).__name__} is no memory of a handle; pass what handle.save_state() returned.")
    return state
