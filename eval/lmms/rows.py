"""The questions of our tasks, drawn from the generated scenes: whatever families there are, in one form."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vtc.eval.scenes import FAMILIES, question_set

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Row:
    """One question; ``images`` is one picture, or the frames of a video."""

    family: str
    question: str
    answer: str
    images: tuple[Image, ...]
    video: bool = False


def rows(number: int, seed: int) -> Iterator[Row]:
    """Draw ``number`` questions of every family, those of ``vtc eval quality`` with the same seed.

    Parameters
    ----------
    number : int
        Per family. Fewer give the beginning of more.
    seed : int
        Which set of questions.
    """
    for scene, question in question_set(number * len(FAMILIES), seed):
        yield Row(question.family, question.text, question.answer, (scene.image,))
    videos = _videos()
    for family in () if videos is None else videos.VIDEO_FAMILIES:
        for clip, question in itertools.islice(videos.video_questions(family, seed), number):
            yield Row(question.family, question.text, question.answer, tuple(clip.frames), video=True)


def _videos() -> Any:
    """Module with the questions about videos, where the scenes have one."""
    name = "vtc.eval.scenes.video_questions"
    return import_module(name) if find_spec(name) is not None else None


def by_family(found: Sequence[Row]) -> dict[str, list[Row]]:
    """Group, families in the order of their first question."""
    groups: dict[str, list[Row]] = {}
    for row in found:
        groups.setdefault(row.family, []).append(row)
    return groups
