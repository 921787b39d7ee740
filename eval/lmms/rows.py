"""The questions of our tasks: those of the quality benchmark, whatever families it has, in one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vtc.eval.quality.questions import FAMILIES, family_items

if TYPE_CHECKING:
    from PIL.Image import Image

GROUP = "vtc"
"""Group of the tasks about pictures; those about videos are in the group ``vtc_video``."""


@dataclass(frozen=True)
class Row:
    """One question; ``frames`` is one picture, or those of a video."""

    family: str
    question: str
    answer: str
    frames: tuple[Image, ...]
    is_video: bool = False

    @property
    def group(self) -> str:
        """Group of tasks it belongs to."""
        return f"{GROUP}_video" if self.is_video else GROUP

    @property
    def task(self) -> str:
        """Name of its task."""
        family = self.family.removeprefix("video-")
        return f"{self.group}_{family}".replace("-", "_")


def rows(number: int, seed: int) -> Iterator[Row]:
    """Draw ``number`` questions of every family, those of ``vtc eval quality`` with the same seed.

    Parameters
    ----------
    number : int
        Per family. Fewer give the beginning of more.
    seed : int
        Which set of questions.
    """
    for family in FAMILIES:
        for item in family_items(family, number, seed):
            yield Row(family, item.question, item.answer, tuple(item.frames), item.is_video)


def by_task(found: Sequence[Row]) -> dict[str, list[Row]]:
    """Sort the rows into tasks, in the order of their first question."""
    tasks: dict[str, list[Row]] = {}
    for row in found:
        tasks.setdefault(row.task, []).append(row)
    return tasks
