"""Read a picture or a film from a file, safely."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import limits as defaults
from .child import WHY, Noun, decode
from .limits import ANIMATED, Job, Limits, Spread

if TYPE_CHECKING:
    from PIL.Image import Image

_MAGIC = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    **{b"P" + kind: "PPM" for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"f", b"F", b"y")},
}
_FILMS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".ogv", ".wmv", ".gif")


@dataclass(frozen=True)
class Film:
    """Frames of a film.

    Parameters
    ----------
    frames : list of PIL.Image.Image
        RGB, upright, all of one size; where a number repeats, the same object.
    indices : list of int
        Number of each frame in the file, from 0.
    fps : float
        Frames per second of the file, on average.
    total : int
        Frames in the file.
    """

    frames: list[Image]
    indices: list[int]
    fps: float
    total: int


def read_picture(path: str | Path, side: int | None = None, limits: Limits | None = None) -> Image:
    """Read a picture in 8-bit RGB, turned upright.

    Parameters
    ----------
    path : str or Path
        PNG, JPEG, WebP, GIF, BMP, TIFF or PPM, told by content; of several pictures the first.
    side : int or None
        Scale down to at most so many pixels on the longer side.
    limits : Limits or None
        What reading may cost; :data:`vtc.media.PICTURE` if left out.

    Returns
    -------
    PIL.Image.Image
        RGB; deeper values are scaled (:func:`vtc.media.eight_bit`), what is transparent shows white.

    Raises
    ------
    FileNotFoundError
        No such file.
    TypeError
        ``path`` is no path.
    ValueError
        No regular file, no picture, a damaged or truncated one, or one beyond the limits.

    Notes
    -----
    A process of its own decodes the file, for about 0.2 s, so that no file can crash this one or take its memory.
    """
    _check_side(side)
    path = _regular(path, "picture")
    found = limits or defaults.PICTURE
    _check_bytes(path, found, "picture")
    return decode(path, "picture", Job("picture", True, side), found)[1][0]


def read_film(
    path: str | Path, spread: Spread | None = None, side: int | None = None, limits: Limits | None = None
) -> Film:
    """Read frames spread evenly over a film or an animated picture.

    Parameters
    ----------
    path : str or Path
        MP4, MOV, Matroska, WebM, AVI, MPEG, FLV, Ogg, WMV, or an animated GIF, PNG or WebP, told by content.
    spread : Spread or None
        Which frames; as many as :func:`vtc.video.frame_count` says if left out.
    side : int or None
        Scale frames down to at most so many pixels on the longer side.
    limits : Limits or None
        What reading may cost; :data:`vtc.media.FILM` if left out.

    Raises
    ------
    ImportError
        PyAV is missing.
    FileNotFoundError
        No such file.
    TypeError
        ``path`` is no path, or a count is no whole number.
    ValueError
        No regular file, no film, a damaged one, one beyond the limits, or a number out of range.
    """
    _check_side(side)
    spread = spread or Spread()
    spread.check()
    path = _regular(path, "video")
    found = limits or defaults.FILM
    _check_bytes(path, found, "video")
    return _film(*decode(path, "video", Job("film", _format(path) in ANIMATED, side, spread), found))


def read_media(
    path: str | Path,
    spread: Spread | None = None,
    side: int | None = None,
    picture: Limits | None = None,
    film: Limits | None = None,
) -> Image | Film:
    """Read a picture, or a film where the file holds one (an animated picture is one), told by content.

    Parameters
    ----------
    path, spread, side
        See :func:`read_film`.
    picture, film : Limits or None
        For pictures, animated ones too, and for films; :data:`vtc.media.PICTURE` and :data:`vtc.media.FILM` if left
        out.

    Raises
    ------
    ImportError, FileNotFoundError, TypeError, ValueError
        As :func:`read_picture` and :func:`read_film`.
    """
    _check_side(side)
    spread = spread or Spread()
    spread.check()
    path = _regular(path, "picture or video")
    noun: Noun = "video" if path.suffix.lower() in _FILMS else "picture or video"
    _check_bytes(path, film or defaults.FILM, noun)
    by_pillow = _format(path) is not None
    limits = (picture or defaults.PICTURE) if by_pillow else (film or defaults.FILM)
    if by_pillow:
        noun = "picture"
        _check_bytes(path, limits, noun)
    answer, frames = decode(path, noun, Job("any" if by_pillow else "film", by_pillow, side, spread), limits)
    return frames[0] if answer["indices"] is None else _film(answer, frames)


def _film(answer: dict[str, Any], frames: list[Image]) -> Film:
    by_number = dict(zip(answer["numbers"], frames, strict=True))
    return Film([by_number[i] for i in answer["indices"]], answer["indices"], answer["fps"], answer["total"])


def _regular(path: str | Path, noun: Noun) -> Path:
    """Path of a file that can be opened without waiting: no folder, device or pipe."""
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise TypeError(f"A {noun} is read from the path of a file, and {type(path).__name__} was passed.")
    path = Path(path)
    try:
        exists, regular = path.exists(), path.is_file()
    except (OSError, ValueError):  # a name no file can have
        exists = regular = False
    if not exists:
        raise FileNotFoundError(f"There is no {noun} file {str(path)!r}.")
    if not regular:
        what = "a folder" if path.is_dir() else "a pipe, socket or device"
        raise ValueError(f"{str(path)!r} is {what} and no file: pass the path of a {noun} file.")
    return path


def _check_bytes(path: Path, limits: Limits, noun: Noun) -> None:
    size = path.stat().st_size
    if size == 0:
        raise ValueError(f"{path.name!r} cannot be read as a {noun} (the file is empty): {WHY[noun]}.")
    if limits.file_bytes is not None and size > limits.file_bytes:
        raise ValueError(
            f"{path.name!r} has {size / 2**20:.4g} MiB; at most {limits.file_bytes / 2**20:.4g} are taken. Scale it "
            "down or compress it first."
        )


def _check_side(side: int | None) -> None:
    if side is not None and (isinstance(side, bool) or not isinstance(side, int)):
        raise TypeError(f"side={side!r} is not allowed: pass a whole number of pixels, or None.")
    if side is not None and side < 1:
        raise ValueError(f"side={side} is not allowed: pass a number of pixels >= 1, or None.")


def _format(path: Path) -> str | None:
    """Format of a picture by its first bytes, None for anything else."""
    with path.open("rb") as file:
        start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
