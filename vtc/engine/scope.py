"""A value for what runs inside of a block, in one thread or task: nothing stays bound, whenever Ctrl-C arrives.

``ContextVar.reset`` puts the value back that was there before, so blocks must end in the order they were nested in. An
interrupt between the end of ``__enter__`` and the ``with`` block breaks that order: the inner block ends last, when its
generator is collected, and would bring back what the outer one has ended. Here a binding knows by itself that it is
over, and whoever reads goes on to the next one around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

T = TypeVar("T")


class Binding(Generic[T]):
    """One value, until it is over."""

    __slots__ = ("outer", "over", "value")

    def __init__(self, value: T, outer: Binding[T] | None) -> None:
        self.value, self.outer, self.over = value, outer, False


class Scope(Generic[T]):
    """Variable with a value per thread or task.

    Parameters
    ----------
    name : str
    default : T
        Outside of all blocks.
    """

    def __init__(self, name: str, default: T) -> None:
        self._var: ContextVar[Binding[T] | None] = ContextVar(name, default=None)
        self._default = default

    def get(self) -> T:
        """Value that holds here."""
        binding = self._valid()
        return self._default if binding is None else binding.value

    @contextmanager
    def bind(self, value: T) -> Iterator[T]:
        """Set the value for what this thread or task runs inside."""
        binding = Binding(value, self._valid())
        try:
            # inside of the try: an interrupt may come between the call that binds and the next step
            self._var.set(binding)
            yield value
        finally:
            binding.over = True  # one step, which holds wherever the block is collected and whatever comes between
            if self._var.get() is binding:
                self._var.set(binding.outer)
                binding.over = False  # a thread that was started inside, in a copy of the context, goes on with it

    def _valid(self) -> Binding[T] | None:
        binding = self._var.get()
        while binding is not None and binding.over:
            binding = binding.outer
        return binding
