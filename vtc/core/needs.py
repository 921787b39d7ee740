"""Places where a method may act, and the measurements it may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from .statistics import Stat, Statistic, Tower, statistic


@dataclass(frozen=True)
class Encoder:
    """Inside the vision tower, before block ``layer`` (0-based): later blocks run on fewer patches."""

    layer: int


@dataclass(frozen=True)
class Projector:
    """After the projector, before the language model."""


@dataclass(frozen=True)
class Decoder:
    """Before decoder layer ``layer`` (0-based), prefill only."""

    layer: int


Place = Encoder | Projector | Decoder


@dataclass(frozen=True)
class Need:
    """One measurement a stage asks for.

    Parameters
    ----------
    tower : {"vision", "decoder"}
    layer : int
        0-based absolute layer.
    stat : str
        Name in :mod:`vtc.core.statistics`, which also says what it takes as ``option``.
    option : hashable
        Parameter of the statistic.

    Raises
    ------
    ValueError
        The tower has no such statistic at that layer.
    """

    tower: Tower
    layer: int
    stat: Stat
    option: str | float | tuple | None = None

    def __post_init__(self) -> None:
        self.statistic.check(self.tower, self.layer)

    @property
    def statistic(self) -> Statistic:
        """What is known of the statistic: how it is read, and what its values look like."""
        return statistic(self.stat)
