"""The fixed test sets: questions about pictures and videos, and the hash that pins them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..scenes import IMAGE_FAMILIES
from ..scenes.questions import image_questions
from ..scenes.video_questions import VIDEO_FAMILIES, video_questions

if TYPE_CHECKING:
    from PIL.Image import Image

PER_FAMILY = 500
"""Questions per family in the full test set."""


@dataclass(frozen=True)
class Item:
    """One question of a test set.

    Parameters
    ----------
    family, question, answer : str
    frames : tuple of PIL.Image.Image
        One image, or the frames of a video.
    seed : int
        Of the scene or video.
    layout : str
        What lies where, for the hash.
    """

    family: str
    question: str
    answer: str
    frames: tuple[Image, ...]
    seed: int
    layout: str

    @property
    def is_video(self) -> bool:
        """Whether the question is about a video."""
        return self.family in VIDEO_FAMILIES


FAMILIES: tuple[str, ...] = (*IMAGE_FAMILIES, *VIDEO_FAMILIES)
"""Every family of questions, those about pictures first."""


def family_items(family: str, count: int, seed: int = 0) -> list[Item]:
    """First ``count`` questions of one family.

    Parameters
    ----------
    family : str
    count : int
    seed : int
        0 to 899. Sets with different seeds share no scene.

    Raises
    ------
    ValueError
        Unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}; families: {', '.join(FAMILIES)}.")
    if family in VIDEO_FAMILIES:
        videos = itertools.islice(video_questions(family, seed), count)
        return [Item(family, q.text, q.answer, v.frames, v.seed, repr(v.tracks)) for v, q in videos]
    asked = itertools.islice(image_questions(family, seed), count)
    return [Item(family, q.text, q.answer, (s.image,), s.seed, repr((s.objects, s.texts, s.bars))) for s, q in asked]


def test_set(families: Sequence[str], limit: int, seed: int = 0) -> list[Item]:
    """Draw ``limit`` questions, each about a picture or video of its own, the families taking turns.

    Parameters
    ----------
    families : sequence of str
        Names out of :data:`FAMILIES`.
    limit : int
        Number of questions in all; :data:`PER_FAMILY` times the number of families is the full set.
    seed : int
        0 to 899. Sets with different seeds share no scene.
    """
    shares = [limit // len(families) + (i < limit % len(families)) for i in range(len(families))]
    columns = [family_items(family, share, seed) for family, share in zip(families, shares, strict=True)]
    turns = itertools.zip_longest(*columns)
    return [item for turn in turns for item in turn if item is not None]


test_set.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name


def digest(items: Sequence[Item]) -> str:
    """SHA-256 of families, questions, answers, seeds and layouts, in order."""
    lines = ("\t".join((i.family, i.question, i.answer, str(i.seed), i.layout)) for i in items)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
