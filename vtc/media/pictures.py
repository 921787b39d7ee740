"""Decode pictures, still and animated; the only place that opens one. Runs in a process of its own for users' files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .depth import upright
from .limits import ANIMATED, Limits, Refused, Spread

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Read, and no others: Pillow knows formats that start programs (EPS) and many that hardly anybody tests."""
_NO_DELAY = 0.1  # seconds of a frame that names none, as browsers show it


def load(path: Path, side: int | None, limits: Limits) -> Image:
    """Picture as RGB, upright, at most ``side`` pixels on its longer side; the first one of several."""
    with _open(path) as image:
        check_size(image.size, limits.pixels)
        return scaled(upright(image), side)


def bundled(path: Path) -> Image:
    """Picture that came with the package, as RGB; decoded here and now, because it is known."""
    with _open(path) as image:
        return image.convert("RGB")


def moves(path: Path) -> bool:
    """Whether a file is a picture of several frames that follow one another in time."""
    with _open(path) as image:
        return image.format in ANIMATED and bool(getattr(image, "is_animated", False))


def load_frames(
    path: Path, spread: Spread, side: int | None, limits: Limits
) -> tuple[dict[int, Image], list[int], float, int]:
    """Frames of an animated picture by number, the numbers wanted, frames per second, and how many there are."""
    delays = [_delay(image) for image in _passed(path, limits)]
    total, seconds = len(delays), sum(delays)
    check_length(seconds, limits)
    indices = spread.indices(total, seconds)
    frames: dict[int, Image] = {}
    wanted = set(indices)
    for number, image in enumerate(_passed(path, limits)):
        if number in wanted:
            frame = scaled(upright(image), side)
            check_returned(frame.size, len(wanted), limits)
            first = next(iter(frames.values()), frame)
            frames[number] = frame if frame.size == first.size else frame.resize(first.size)
    return frames, indices, total / seconds, total


def check_size(size: tuple[int, int], most: int) -> None:
    """Refuse a picture or frame with too many pixels."""
    if size[0] * size[1] > most:
        raise Refused(f"It has {size[0]} x {size[1]} pixels; at most {most:,} pixels are taken. Scale it down first.")


def check_length(seconds: float, limits: Limits) -> None:
    """Refuse a film that lasts too long."""
    if limits.length is not None and seconds > limits.length:
        raise Refused(f"It lasts {seconds:.0f} s; at most {limits.length:.0f} s are taken. Cut it first.")


def check_returned(size: tuple[int, int], count: int, limits: Limits) -> None:
    """Refuse where the wanted frames would not fit into the memory they may take."""
    needed = 3 * size[0] * size[1] * count
    if needed > limits.returned:
        raise Refused(
            f"The {count} frames of {size[0]} x {size[1]} pixels take {needed / 2**30:.3g} GiB; at most "
            f"{limits.returned / 2**30:.3g} are handed back. Ask for fewer (count=...) or smaller ones (side=...)."
        )


def scaled(image: Image, side: int | None) -> Image:
    """Scale down to at most ``side`` pixels on the longer side."""
    if side is not None:
        image.thumbnail((side, side))
    return image


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    from PIL import Image as pillow

    # given a path, Pillow maps uncompressed TIFFs into memory, and mixes up the rows of those that lie on their side
    with path.open("rb") as file, pillow.open(file, formats=FORMATS) as image:
        yield image


def _passed(path: Path, limits: Limits) -> Iterator[Image]:
    """Show an animated picture frame by frame, one in memory at a time."""
    with _open(path) as image:
        check_size(image.size, limits.pixels)
        count = image.n_frames
        if count * image.width * image.height > limits.work:
            raise Refused(
                f"Its {count} frames of {image.width} x {image.height} pixels are {count * image.width * image.height} "
                f"pixels; at most {limits.work} are decoded. Cut it, or scale it down."
            )
        # a PNG may hold a still picture for readers that know no animation
        for number in range(int(bool(image.info.get("default_image"))), count):
            image.seek(number)
            check_size(image.size, limits.pixels)  # a frame of a GIF may reach beyond the canvas, which then grows
            image.load()
            yield image


def _delay(image: Image) -> float:
    return float(image.info.get("duration") or 0) / 1000 or _NO_DELAY
