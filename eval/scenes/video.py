"""Short videos: a few objects that appear, vanish or move before a still background."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .backgrounds import background
from .drawing import COLORS, SHAPES, Color, draw_shape, shade
from .scene import Box, SceneObject, place

FRAMES = 8
VIDEO_SIZE = (100, 100)
"""Width and height of a frame in pixels."""
ROLES = ("appear", "vanish", "move", "still")
_PAIRS = (
    ("appear", "appear"),
    ("appear", "appear"),
    ("appear", "vanish"),
    ("vanish", "move"),
    ("move", "appear"),
    ("move", "move"),
)
WAYS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Track:
    """An object over time.

    Parameters
    ----------
    start : SceneObject
        Where it is in the first frame.
    role : str
        One of :data:`ROLES`.
    frame : int
        First frame (from 1) in which it is visible (``"appear"``) or no longer visible (``"vanish"``), else 0.
    way : str
        A key of :data:`WAYS` for ``"move"``, else empty.
    speed : int
        Pixels per frame.
    """

    start: SceneObject
    role: str
    frame: int = 0
    way: str = ""
    speed: int = 0

    @property
    def name(self) -> str:
        """Colour and shape."""
        return f"{self.start.color} {self.start.shape}"

    def at(self, index: int) -> SceneObject | None:
        """The object in frame ``index`` (from 0); None where it is not visible."""
        if self.role == "appear" and index + 1 < self.frame or self.role == "vanish" and index + 1 >= self.frame:
            return None
        dx, dy = WAYS.get(self.way, (0, 0))
        o = self.start
        return SceneObject(o.shape, o.color, o.x + dx * self.speed * index, o.y + dy * self.speed * index, o.radius)


@dataclass(frozen=True)
class Video:
    """Frames (RGB) and the tracks of their objects."""

    seed: int
    frames: tuple[Image.Image, ...]
    tracks: tuple[Track, ...]


def _track(rng: random.Random, role: str, name: tuple[str, str], taken: list[Box]) -> Track | None:
    radius = rng.randint(11, 14)
    way = rng.choice(list(WAYS)) if role == "move" else ""
    speed = rng.randint(4, 6) if way else 0
    dx, dy = WAYS.get(way, (0, 0))
    reach = speed * (FRAMES - 1) / 2
    box = place(rng, VIDEO_SIZE, (radius + abs(dx) * reach, radius + abs(dy) * reach), taken)
    if box is None:
        return None
    x, y = (box[0] + box[2]) / 2 - dx * reach, (box[1] + box[3]) / 2 - dy * reach
    frame = rng.randint(2, 8) if role in ("appear", "vanish") else 0
    return Track(SceneObject(*name, int(x), int(y), radius), role, frame, way, speed)


def make_video(seed: int) -> Video:
    """Make video number ``seed``: the same one on every call.

    Parameters
    ----------
    seed : int
        Below :data:`vtc.eval.scenes.TRAIN_SEEDS` for tests, from it on for training.
    """
    rng = random.Random(f"video/{seed}")
    paper = background(rng, VIDEO_SIZE)
    names = rng.sample([(shape, color) for shape in SHAPES for color in COLORS], 3)
    roles = [*rng.choice(_PAIRS), *["still"] * rng.randint(0, 1)]
    taken: list[Box] = []
    found = (_track(rng, role, name, taken) for role, name in zip(roles, names, strict=False))
    tracks = tuple(track for track in found if track is not None)
    fills: list[Color] = [shade(rng, track.start.color) for track in tracks]
    frames = []
    for index in range(FRAMES):
        frame = paper.copy()
        draw = ImageDraw.Draw(frame)
        for track, fill in zip(tracks, fills, strict=True):
            item = track.at(index)
            if item is not None:
                draw_shape(draw, item.shape, item.x, item.y, item.radius, fill)
        frames.append(frame)
    return Video(seed, tuple(frames), tracks)
