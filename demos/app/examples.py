"""Things to ask about that come with the package."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vtc.eval.scenes import IMAGE_FAMILIES
from vtc.media.pictures import bundled

from ..embedded import PHOTO, PHOTO_QUESTION, sample, sample_video
from .media import Media


@dataclass(frozen=True)
class Example:
    """A picture or video with a question; ``answer`` is the right one where it is known."""

    media: Media
    question: str
    answer: str | None = None

    @property
    def label(self) -> str:
        """Text of its button."""
        return f"{self.media.name}: {self.question}"


@functools.cache
def examples() -> tuple[Example, ...]:
    """Questions about a generated scene and a chart, a photograph, and a generated video."""
    found = []
    for family in IMAGE_FAMILIES:
        image, question, answer = sample("tiny-llava", family)
        found.append(Example(Media("image", (image,), "Chart" if family == "chart" else "Scene"), question, answer))
    photo = bundled(PHOTO)
    found.append(Example(Media("image", (photo,), "Photo"), PHOTO_QUESTION))
    frames, question, answer = sample_video()
    found.append(Example(Media("video", frames, "Video"), question, answer))
    return tuple(found)
