"""The fixed test sets: questions about pictures and videos, and the hash that pins them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .scenes import VARIED_FAMILIES
from .scenes.board import FAMILIES, board_family
from .scenes.questions import varied_family
from .scenes.video_questions import VIDEO_FAMILIES, video_questions

if TYPE_CHECKING:
    from PIL.Image import Image

PER_FAMILY = 500
"""Questions per family in the full test set."""
SCENES = ("varied", "board")
"""Kinds of scenes: several sizes, photographs, text, charts and videos; or easy boards of 112 x 112 pixels."""


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


def families_of(scenes: str, videos: bool = False) -> tuple[str, ...]:
    """Families of one of :data:`SCENES`; those about videos go with ``"varied"``.

    Raises
    ------
    ValueError
        Unknown kind of scenes.
    """
    if scenes not in SCENES:
        raise ValueError(f"scenes={scenes!r} is unknown; choose one of {', '.join(SCENES)}.")
    if scenes == "board":
        return FAMILIES
    return (*VARIED_FAMILIES, *VIDEO_FAMILIES) if videos else VARIED_FAMILIES


def family_items(family: str, count: int, seed: int = 0, scenes: str = "varied") -> list[Item]:
    """First ``count`` questions of one family.

    Parameters
    ----------
    family : str
    count : int
    seed : int
        0 to 899. Sets with different seeds share no scene.
    scenes : str
        One of :data:`SCENES`.

    Raises
    ------
    ValueError
        Unknown family or kind of scenes.
    """
    known = families_of(scenes, videos=True)
    if family not in known:
        raise ValueError(f"Unknown family {family!r} of {scenes} scenes; families: {', '.join(known)}.")
    if family in VIDEO_FAMILIES:
        videos = itertools.islice(video_questions(family, seed), count)
        return [Item(family, q.text, q.answer, v.frames, v.seed, repr(v.tracks)) for v, q in videos]
    stream = board_family(family, seed) if scenes == "board" else varied_family(family, seed)
    asked = itertools.islice(stream, count)
    return [Item(family, q.text, q.answer, (s.image,), s.seed, repr((s.objects, s.texts, s.bars))) for s, q in asked]


def test_set(families: Sequence[str], limit: int, seed: int = 0, scenes: str = "varied") -> list[Item]:
    """Draw ``limit`` questions, each about a picture or video of its own, the families taking turns.

    Parameters
    ----------
    families : sequence of str
        Names out of :func:`families_of`.
    limit : int
        Number of questions in all; :data:`PER_FAMILY` times the number of families is the full set.
    seed : int
        0 to 899. Sets with different seeds share no scene.
    scenes : str
        One of :data:`SCENES`.
    """
    shares = [limit // len(families) + (i < limit % len(families)) for i in range(len(families))]
    columns = [family_items(family, share, seed, scenes) for family, share in zip(families, shares, strict=True)]
    turns = itertools.zip_longest(*columns)
    return [item for turn in turns for item in turn if item is not None]


test_set.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name


def digest(items: Sequence[Item]) -> str:
    """SHA-256 of families, questions, answers, seeds and layouts, in order."""
    lines = ("\t".join((i.family, i.question, i.answer, str(i.seed), i.layout)) for i in items)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
