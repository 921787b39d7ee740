"""Stand in front of a method of one object, and step aside without a trace."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn


class Wrapped:
    """An instance attribute that answers for a method of ``owner`` while a patch lasts.

    A class of its own rather than a closure: ``deepcopy`` and ``pickle`` carry it along with the object it stands on,
    so that a copy of a patched model is a patched model of its own.

    Parameters
    ----------
    owner : object
        Object whose method is wrapped; an attribute of its own under that name is kept and put back.
    name : str
    body : callable
        ``body(wrapped, args, kwargs)`` runs in its place; ``wrapped.original`` is what it stands for.
    """

    def __init__(self, owner: nn.Module, name: str, body: Callable[[Wrapped, tuple, dict[str, Any]], Any]) -> None:
        self.owner, self.name = owner, name
        self.body: Callable[[Wrapped, tuple, dict[str, Any]], Any] | None = body
        self.own = name in owner.__dict__
        self.before: Any = owner.__dict__.get(name)
        owner.__dict__[name] = self

    @property
    def original(self) -> Callable:
        """The method behind, bound."""
        if self.own:
            return self.before
        return getattr(type(self.owner), self.name).__get__(self.owner)

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Run the body, or the method itself after :meth:`remove`."""
        if self.body is None:
            return self.original(*args, **kwargs)
        return self.body(self, args, kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        # generate, the Trainer and pipelines pick arguments by signature
        return inspect.signature(self.original)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.original.__doc__

    @property
    def __name__(self) -> str:
        return self.name

    def remove(self) -> None:
        """Give the method back; when somebody has wrapped this object since, stay and do nothing."""
        self.body = None
        if self.owner.__dict__.get(self.name) is not self:
            return
        if self.own:
            self.owner.__dict__[self.name] = self.before
        else:
            del self.owner.__dict__[self.name]


class Undo:
    """What was done to a model, undone last first."""

    def __init__(self) -> None:
        self.steps: list[Callable[[], Any]] = []

    def wrap(self, owner: nn.Module, name: str, body: Callable) -> None:
        """Wrap a method."""
        self.steps.append(Wrapped(owner, name, body).remove)

    def add(self, *removable: Any) -> None:
        """Take in hooks of torch and other things with a ``remove``."""
        self.steps += [thing.remove for thing in removable]

    def run(self) -> None:
        """Undo everything; harmless when called twice."""
        while self.steps:
            self.steps.pop()()
