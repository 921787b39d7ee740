"""Things to ask about that come with the package."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from PIL import Image

from ..embedded import PHOTO, PHOTO_QUESTION, sample
from .limits import FRAMES
from .media import Media

_FAMILIES = ("attribute", "existence", "counting", "reading")


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
    """Four questions about a generated scene, a photograph, and a camera that moves over it."""
    found = []
    for family in _FAMILIES:
        image, question, answer = sample("tiny-llava", family)
        found.append(Example(Media("image", (image,), "Scene"), question, answer))
    photo = Image.open(PHOTO).convert("RGB")
    found.append(Example(Media("image", (photo,), "Photo"), PHOTO_QUESTION))
    found.append(Example(Media("video", _pan(photo), "Video"), PHOTO_QUESTION))
    return tuple(found)


def _pan(photo: Image.Image) -> tuple[Image.Image, ...]:
    """Frames of a window that moves from the left of a picture to its right."""
    width, height = photo.width * 6 // 10, photo.height
    lefts = [round(i * (photo.width - width) / (FRAMES - 1)) for i in range(FRAMES)]
    return tuple(photo.crop((left, 0, left + width, height)).resize((width // 2, height // 2)) for left in lefts)
