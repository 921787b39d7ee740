"""Decode films with PyAV; the only place that opens one. Runs in a process of its own, for FFmpeg may crash."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .limits import Limits, Refused, Spread
from .pictures import check_length, check_returned, check_size, scaled

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts", "mpeg", "mpegvideo", "m4v", "flv", "ogg", "asf")
"""Containers that are read. Others name further files or addresses (playlists), or devices."""
THREADS = 2
"""Of a decoder: every one holds frames of its own."""


@dataclass(frozen=True)
class Facts:
    """What a film says of itself: frames (0: nothing), frames per second, seconds (0: nothing)."""

    frames: int
    fps: float
    seconds: float


def load_frames(
    path: Path, spread: Spread, side: int | None, limits: Limits
) -> tuple[dict[int, Image], list[int], float, int]:
    """Frames of a film by number, the numbers wanted, frames per second, and how many there are.

    The film is decoded from the start and frames are counted, so that every number is exact also where key frames are
    rare; only the wanted frames are kept. Where a film holds fewer frames than it claims, those that are there are
    sampled.
    """
    facts = _facts(path, limits)
    total = facts.frames or _decode(path, [], side, limits, facts.fps)[1]
    while total > 0:
        indices = spread.indices(total, total / facts.fps)
        frames, found = _decode(path, indices, side, limits, facts.fps)
        if len(frames) == len(set(indices)):
            return frames, indices, facts.fps, total
        total = found
    raise Refused("It holds no frame.")


def _open(path: Path) -> Any:
    import av

    container = av.open(
        f"file:{path}", container_options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    )
    if not container.streams.video:
        container.close()
        raise Refused("It holds no picture track.")
    return container


def _facts(path: Path, limits: Limits) -> Facts:
    with _open(path) as container:
        stream = container.streams.video[0]
        check_size((stream.codec_context.width, stream.codec_context.height), limits.pixels)
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise Refused("It does not say how many frames per second it has.")
        frames, seconds = int(stream.frames or 0), (container.duration or 0) / 1_000_000
        facts = Facts(frames, float(rate), max(seconds, frames / float(rate)))
    check_length(facts.seconds, limits)
    return facts


def _decode(
    path: Path, indices: list[int], side: int | None, limits: Limits, fps: float
) -> tuple[dict[int, Image], int]:
    """Wanted frames by number, and how many were counted; stops behind the last wanted one."""
    frames: dict[int, Image] = {}
    wanted, number = set(indices), 0
    last = max(indices, default=None)
    for frame in _decoded(path, limits):
        check_length(number / fps, limits)
        if number in wanted:
            picture = scaled(_upright(frame), side)
            check_returned(picture.size, len(wanted), limits)
            first = next(iter(frames.values()), picture)
            frames[number] = picture if picture.size == first.size else picture.resize(first.size)
        number += 1
        if last is not None and number > last:
            break
    return frames, number


def _decoded(path: Path, limits: Limits) -> Iterator[Any]:
    import av

    number = 0
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"max_pixels": str(limits.pixels)}
        stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
        try:
            for frame in container.decode(stream):
                check_size((frame.width, frame.height), limits.pixels)
                yield frame
                number += 1
        except av.error.FFmpegError as error:
            raise Refused(f"It is damaged: frame {number} cannot be read ({error.strerror}).") from error


def _upright(frame: Any) -> Image:
    """Frame as RGB, turned as the film says: telephones write films lying on their side."""
    from PIL.Image import Transpose

    turns = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
    turn = turns.get(round(getattr(frame, "rotation", 0)) % 360)
    image = frame.to_image()
    return image if turn is None else image.transpose(turn)
