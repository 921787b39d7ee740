"""Who wants to hear of forwards without being part of the engine: policies, frame scores, a stage on the KV cache."""

from __future__ import annotations

from collections.abc import Callable

from ..core.stage import Need
from .forward import Forward
from .types import Cache
from .wrapping import Undo


class Listener:
    """Base of all listeners; every method may be left out."""

    def measures(self) -> dict[Need, Callable]:
        """Further measures of decoder layers: ``measure(attention, collector) -> Tensor`` by need."""
        return {}

    def install(self, undo: Undo) -> None:
        """Hook further modules; ``undo`` takes what is to be undone."""

    def prompt(self, forward: Forward) -> None:
        """The images of a prompt are located; no stage has run."""

    def prompted(self, forward: Forward) -> None:
        """A prompt with images went through the decoder."""

    def step(self, forward: Forward, cache: Cache | None) -> str:
        """A forward without images reaches the decoder; the name of a statistic to measure in it, or an empty text."""
        return ""

    def stepped(self, forward: Forward) -> None:
        """A forward without images went through the decoder."""

    def fail(self, forward: Forward) -> None:
        """A forward ended by an exception."""
