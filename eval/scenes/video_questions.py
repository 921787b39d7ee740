"""Questions about a short video whose answers are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from .questions import Question
from .video import Video, make_video


def _event(video: Video, rng: random.Random) -> Question | None:
    asked = []
    for role, word in (("appear", "appeared"), ("vanish", "vanished")):
        names = [track.name for track in video.tracks if track.role == role]
        if len(names) == 1:
            asked.append((f"what {word} ?", names[0]))
    return Question("video-event", *rng.choice(asked)) if asked else None


def _frame(video: Video, rng: random.Random) -> Question | None:
    timed = [track for track in video.tracks if track.frame]
    if not timed:
        return None
    track = rng.choice(timed)
    return Question("video-frame", f"in which frame did the {track.name} {track.role} ?", str(track.frame))


def _order(video: Video, rng: random.Random) -> Question | None:
    came = [track for track in video.tracks if track.role == "appear"]
    if len(came) != 2 or came[0].frame == came[1].frame:
        return None
    first = min(came, key=lambda track: track.frame)
    a, b = rng.sample(came, 2)
    return Question("video-order", f"which appeared first the {a.name} or the {b.name} ?", first.name)


def _motion(video: Video, rng: random.Random) -> Question | None:
    moving = [track for track in video.tracks if track.way]
    if not moving:
        return None
    track = rng.choice(moving)
    return Question("video-motion", f"which way did the {track.name} move ?", track.way)


VIDEO_MAKERS: dict[str, Callable[[Video, random.Random], Question | None]] = {
    "video-event": _event,
    "video-frame": _frame,
    "video-order": _order,
    "video-motion": _motion,
}
VIDEO_FAMILIES: tuple[str, ...] = tuple(VIDEO_MAKERS)
"""Families of questions about videos, in the order tables show them."""


def video_questions(family: str, seed: int = 0) -> Iterator[tuple[Video, Question]]:
    """Yield questions of one family, each about a video of its own, without end.

    Parameters
    ----------
    family : str
        One of :data:`VIDEO_FAMILIES`.
    seed : int
        0 to 899. Streams with different seeds share no video.
    """
    number = seed * 1_000_000 + VIDEO_FAMILIES.index(family) * 100_000
    while True:
        video = make_video(number)
        question = VIDEO_MAKERS[family](video, random.Random(f"{number}/{seed}"))
        number += 1
        if question is not None:
            yield video, question
