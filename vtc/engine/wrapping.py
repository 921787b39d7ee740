"""Stand in front of a method of one object, and step aside without a trace."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

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

    def sit(self) -> None:
        """Stand in front of the method."""
        self.owner.__dict__[self.name] = self

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


class Hook:
    """A forward hook of torch that can be taken off although nobody knows whether it was put on.

    Parameters
    ----------
    module : nn.Module
    body : callable
    before : bool
        In front of the module's forward, else behind it.
    **how
        For torch, such as ``with_kwargs=True``.
    """

    def __init__(self, module: nn.Module, body: Callable, before: bool = False, **how: bool) -> None:
        self.module, self.body, self.before, self.how = module, body, before, how

    def sit(self) -> None:
        """Register it."""
        known = self.module.register_forward_pre_hook if self.before else self.module.register_forward_hook
        known(self.body, **self.how)

    def remove(self) -> None:
        """Take it off, if it is there."""
        kind = "_forward_pre_hooks" if self.before else "_forward_hooks"
        hooks = vars(self.module)[kind]
        for key in [key for key, body in hooks.items() if body is self.body]:
            for name in (kind, f"{kind}_with_kwargs", f"{kind}_always_called"):
                vars(self.module).get(name, {}).pop(key, None)


class Seated(Protocol):
    """Something that is put on a model and taken off it."""

    def sit(self) -> None:
        """Put it on."""

    def remove(self) -> None:
        """Take it off; harmless when it is not there, or half."""


class Undo:
    """What was done to a model, undone last first.

    Ctrl-C may arrive between any two steps: how to undo a thing is noted before it is done, and forgotten after it was
    undone.
    """

    def __init__(self) -> None:
        self.steps: list[Callable[[], Any]] = []

    def add(self, *things: Seated) -> None:
        """Put things on a model."""
        for thing in things:
            self.steps.append(thing.remove)
            thing.sit()

    def wrap(self, owner: nn.Module, name: str, body: Callable) -> None:
        """Wrap a method."""
        self.add(Wrapped(owner, name, body))

    def before(self, module: nn.Module, body: Callable, **how: bool) -> None:
        """Hook in front of a module's forward."""
        self.add(Hook(module, body, True, **how))

    def behind(self, module: nn.Module, body: Callable, **how: bool) -> None:
        """Hook behind a module's forward."""
        self.add(Hook(module, body, **how))

    def run(self) -> None:
        """Undo everything; harmless when called twice."""
        while self.steps:
            self.steps[-1]()
            self.steps.pop()
