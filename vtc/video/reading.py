"""Read sampled frames of a video file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtc.media import Limits, Spread, read_film

from .sampling import frame_times, time_sentence

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 1280
"""Longer side of a frame in pixels, by default: more than any processor leaves of a frame of a video."""


@dataclass(frozen=True)
class Clip:
    """Frames of a video.

    Parameters
    ----------
    frames : list of PIL.Image.Image
        RGB, all of one size.
    indices : list of int
        Number of each frame in the file, from 0; some repeat where the file holds fewer frames than were asked for.
    times : list of float
        Seconds from the start to each frame.
    fps : float
        Frames per second of the file, on average.
    total : int
        Frames in the file.
    """

    frames: list[Image]
    indices: list[int]
    times: list[float]
    fps: float
    total: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.total / self.fps

    @property
    def sentence(self) -> str:
        """What a prompt may say about length and times."""
        return time_sentence(self.duration, self.times)

    def arrays(self) -> Any:
        """Return the frames as one array, uint8 [T, H, W, 3]."""
        import numpy as np

        return np.stack([np.asarray(frame) for frame in self.frames])


def read_video(
    path: str | Path,
    base: int = 96,
    extra: int = 64,
    cap: bool = True,
    count: int | None = None,
    side: int | None = SIDE,
    limits: Limits | None = None,
) -> Clip:
    """Read frames spread evenly over a video; see :func:`vtc.video.frame_count` for how many.

    Parameters
    ----------
    path : str or Path
        A film, or an animated GIF, PNG or WebP; see :func:`vtc.media.read_film`.
    base, extra, cap
        See :func:`vtc.video.frame_count`.
    count : int or None
        Read so many frames instead.
    side : int or None
        Frames with a longer side than so many pixels are scaled down to it; None: none is scaled.
    limits : vtc.media.Limits or None
        What reading may cost; :data:`vtc.media.FILM` if left out.

    Raises
    ------
    ImportError
        PyAV is missing.
    FileNotFoundError
        No such file.
    ValueError
        The file is no video, holds no frame or only one, is damaged, or beyond the limits; the message says which.

    Notes
    -----
    The file is decoded from the start and frames are counted, so that every index is exact also where key frames are
    rare; only the sampled frames are kept in memory. Where a file holds fewer frames than it claims, the frames that
    are there are sampled. A process of its own decodes, so that a damaged file cannot end this one.
    """
    film = read_film(path, Spread(count, base, extra, cap), side, limits)
    if film.total < 2:
        raise ValueError(
            f"The video {Path(path).name!r} holds only one frame, which is a picture: pass it as an image."
        )
    return Clip(film.frames, film.indices, frame_times(film.indices, film.fps), film.fps, film.total)
