"""The questions of our tasks: those of the quality benchmark, whatever families it has, in one form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vtc.eval.scenes import FAMILIES, question_set

if TYPE_CHECKING:
    from PIL.Image import Image

GROUP = "vtc"
BOARD = "board"
"""Easy scenes of one size; questions about them are in the group ``vtc_board``, all others in ``vtc``."""


@dataclass(frozen=True)
class Row:
    """One question; ``frames`` is one picture, or those of a video."""

    family: str
    question: str
    answer: str
    frames: tuple[Image, ...]
    scenes: str = BOARD
    is_video: bool = False

    @property
    def group(self) -> str:
        """Group of tasks it belongs to."""
        return f"{GROUP}_video" if self.is_video else GROUP if self.scenes != BOARD else f"{GROUP}_{BOARD}"

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
    sets = _module("test_sets")
    if sets is None:
        for scene, question in question_set(number * len(FAMILIES), seed):
            yield Row(question.family, question.text, question.answer, (scene.image,))
        return
    for scenes in sets.SCENES:
        for family in sets.families_of(scenes, videos=True):
            for item in sets.family_items(family, number, seed, scenes):
                yield Row(family, item.question, item.answer, tuple(item.frames), scenes, item.is_video)


def longest() -> int:
    """Tokens an answer may have in the quality benchmark."""
    answering = _module("answering")
    return 8 if answering is None else answering.LONGEST


def default_group(scenes: str | None) -> str:
    """Group for a model: the easy boards where they are what it was trained on, or all there is."""
    return f"{GROUP}_{BOARD}" if scenes == BOARD or _module("test_sets") is None else GROUP


def _module(name: str) -> Any:
    """Module of ``vtc.eval``, None where the benchmark has none: several kinds of scenes came with ``test_sets``."""
    full = f"vtc.eval.{name}"
    return import_module(full) if find_spec(full) is not None else None


def by_task(found: Sequence[Row]) -> dict[str, list[Row]]:
    """Sort the rows into tasks, in the order of their first question."""
    tasks: dict[str, list[Row]] = {}
    for row in found:
        tasks.setdefault(row.task, []).append(row)
    return tasks
