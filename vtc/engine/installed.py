"""A patch on a model: hooked at once, taken off at once, and never under a running call."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import nn

from .gate import Gate
from .wrapping import Undo

ATTRIBUTE = "_vtc_handle"


class Part(Protocol):
    """What hooks some modules of a model."""

    def install(self, undo: Undo) -> None:
        """Hook them; ``undo`` takes what is to be undone."""


class Installed:
    """The model a handle stands on, and what was done to it.

    Parameters
    ----------
    model : nn.Module
    owner : object
        The handle; it stands on the model while the patch lasts.
    parts : sequence of Part
        In the order they hook.
    """

    def __init__(self, model: nn.Module, owner: object, parts: Sequence[Part]) -> None:
        self.gate, self.parts, self._owner, self._undo = Gate(), list(parts), owner, Undo()
        self._model: Any = model

    def install(self, last: Callable[[Any, Undo], None]) -> None:
        """Hook the model; on any error leave it as it was.

        Parameters
        ----------
        last : callable
            ``last(model, undo)`` wraps what has to come before all parts.

        Raises
        ------
        ValueError
            It was taken off before.
        """
        if isinstance(self._model, _Gone):
            raise ValueError("This handle was taken off: patch the model anew.")
        try:
            # first the way back: whatever Ctrl-C leaves of this block, vtc.unpatch finds the handle
            self._model.__dict__[ATTRIBUTE] = self._owner
            for part in self.parts:
                part.install(self._undo)
            last(self._model, self._undo)
        except BaseException:
            self._take_off()
            raise

    def remove(self, wait: float) -> None:
        """Give the model back when no call runs.

        Raises
        ------
        BusyError
            One does, after ``wait`` seconds.
        """
        with self.gate.closed(wait):
            self._take_off()

    def _take_off(self) -> None:
        self._undo.run()
        # nothing of the model hangs on what users may still hold: its weights go when they let it go
        self.parts = []
        if isinstance(self._model, _Gone):
            return
        # A later patch may stand there by now: it is not ours to take off.
        if self._model.__dict__.get(ATTRIBUTE) is self._owner:
            del self._model.__dict__[ATTRIBUTE]
        self._model = _Gone(self._model)

    @property
    def model(self) -> Any:
        """The model, patched or not any more.

        Raises
        ------
        ValueError
            It is gone: it was unpatched and deleted.
        """
        model = self._model.where() if isinstance(self._model, _Gone) else self._model
        if model is None:
            raise ValueError("The model of this handle was unpatched and is no more.")
        return model

    @property
    def name(self) -> str:
        """Class of the patched model, or that there is none."""
        return "no model" if isinstance(self._model, _Gone) else type(self._model).__name__


class _Gone:
    """A model that was unpatched: looked up while somebody else holds it."""

    def __init__(self, model: nn.Module) -> None:
        self.where = weakref.ref(model)
