"""What methods remember between calls, as users see it: saved, loaded, swapped, cleared."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from ..context import settings, settings_of
from ..patch import Patch
from .state import State, checked

if TYPE_CHECKING:
    from ..record import CallRecord

Mask = Sequence[bool] | Tensor


class Memory:
    """Memory of the methods of one handle: ``handle.memory``.

    ``state = handle.memory.save()`` and ``handle.memory.load(state)`` roll back; ``with handle.memory(state):``
    runs calls on another memory; ``with handle.memory.call():`` marks one policy call.
    """

    def __init__(self, handle: Remembering) -> None:
        self._handle = handle

    @contextmanager
    def __call__(self, state: State | None = None) -> Iterator[State]:
        """Run calls on ``state`` instead of the handle's own, on a new one when None.

        It holds for the calls this thread (or task) makes inside; enter it in every thread that runs a policy.
        """
        state = State() if state is None else checked(state)
        with settings(self._handle, state=state):
            yield state

    def save(self) -> State:
        """Copy of the memory between two calls, for :meth:`load` (rollback, planning) or to run calls on."""
        return self._handle.state.copy()

    def load(self, state: State) -> None:
        """Go back to a saved memory; the saved one stays as it is and may be loaded again."""
        saved, now = checked(state).copy(), self._handle.state
        now.rows, now.layouts, now.environments, now.pending = saved.rows, saved.layouts, saved.environments, None

    @contextmanager
    def call(self, stops: Sequence[int] = ()) -> Iterator[None]:
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
        state = self._handle.state
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


class Remembers(Patch, Protocol):
    """A handle, as policies see it."""

    @property
    def state(self) -> State:
        """Memory the next call reads and writes."""

    @property
    def memory(self) -> Memory:
        """What may be done to it."""


class Remembering:
    """The part of a handle that keeps the memory of methods."""

    last: CallRecord | None

    def __init__(self) -> None:
        self._state = State()

    @property
    def state(self) -> State:
        """Memory the next call reads and writes: that of the innermost ``with handle.memory(state)``, else its own."""
        return settings_of(self).state or self._state

    @property
    def memory(self) -> Memory:
        """Save, load and swap it."""
        return Memory(self)

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

    # -- old names, for one release ------------------------------------------------------------------------------------

    def using(self, state: State | None = None) -> AbstractContextManager[State]:
        """Old name of ``handle.memory(state)``."""
        _renamed("using(state)", "memory(state)")
        return self.memory(state)

    def save_state(self) -> State:
        """Old name of ``handle.memory.save()``."""
        _renamed("save_state()", "memory.save()")
        return self.memory.save()

    def load_state(self, state: State) -> None:
        """Old name of ``handle.memory.load(state)``."""
        _renamed("load_state(state)", "memory.load(state)")
        self.memory.load(state)

    def policy_call(self, stops: Sequence[int] = ()) -> AbstractContextManager[None]:
        """Old name of ``handle.memory.call()``."""
        _renamed("policy_call()", "memory.call()")
        return self.memory.call(stops)


def _renamed(old: str, new: str) -> None:
    warnings.warn(f"handle.{old} is now handle.{new}.", DeprecationWarning, stacklevel=3)
