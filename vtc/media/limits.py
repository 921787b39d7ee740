"""What a file may cost, and which frames of a film are wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

GIB = 1 << 30
MOST_FRAMES = 100_000
"""Of a film at once."""
DRAWING_SIDE, LEAST_DRAWING_SIDE = 2048, 256
"""Longest side of the pictures vtc draws, in pixels: by default, and at least."""
ANIMATED = ("PNG", "WEBP", "GIF")
"""Pictures that may move."""


class Refused(ValueError):
    """A file that is not read, with the reason and the remedy as a sentence."""


@dataclass(frozen=True)
class Limits:
    """What reading one file may cost; beyond it the file is refused with a ValueError.

    Parameters
    ----------
    pixels : int
        Width times height of a picture or of one frame, checked before it is decoded.
    work : int
        Pixels of all frames that an animated picture needs decoded: its canvas times the number of frames.
    file_bytes : int or None
        Size of the file; None: any (films are read piece by piece).
    returned : int
        Bytes of all frames that are handed back, after scaling.
    memory : int
        Bytes of address space of the process that decodes, where the platform can limit it (Linux).
    seconds : float
        Wall-clock time.
    length : float or None
        Seconds a film may last; None: any.
    """

    pixels: int = 100_000_000
    work: int = 4_000_000_000
    file_bytes: int | None = GIB
    returned: int = 2 * GIB
    memory: int = 3 * GIB
    seconds: float = 60.0
    length: float | None = None


PICTURE = Limits()
"""For one picture: 100 megapixels, one minute."""
FILM = Limits(pixels=36_000_000, file_bytes=None, seconds=600.0)
"""For a film: frames up to 8192 x 4320 pixels, ten minutes to read them (hours of film take minutes to decode)."""


@dataclass(frozen=True)
class Spread:
    """Frames spread evenly over a film.

    Parameters
    ----------
    count : int or None
        So many; None: as many as :func:`vtc.video.frame_count` says for the length of the film.
    base, extra, cap
        See :func:`vtc.video.frame_count`.
    repeat : bool
        Repeat frames of a film that has fewer of them, rather than return fewer.
    ends : bool
        From the first frame to the last; False: the first frame of each of ``count`` equal parts.
    """

    count: int | None = None
    base: int = 96
    extra: int = 64
    cap: bool = True
    repeat: bool = True
    ends: bool = True

    def check(self) -> None:
        """Raise a ValueError for a number out of range, before any file is opened."""
        wanted = self.wanted(0.0)
        if wanted > MOST_FRAMES:
            raise ValueError(f"{wanted} frames are too many: at most {MOST_FRAMES} of a film are read at once.")

    def wanted(self, duration: float) -> int:
        """Frames to take of a film of so many seconds."""
        from vtc.video.sampling import frame_count

        if self.count is None:
            return frame_count(duration, self.base, self.extra, self.cap)
        if isinstance(self.count, bool) or not isinstance(self.count, int):
            raise TypeError(f"count={self.count!r} is not allowed: pass a whole number of frames, or None.")
        if self.count < 1:
            raise ValueError(f"count={self.count} is not allowed: pass a number of frames >= 1, or None.")
        return self.count

    def indices(self, total: int, duration: float) -> list[int]:
        """Numbers of the wanted frames of ``total``."""
        from vtc.video.sampling import sample_indices

        wanted = self.wanted(duration) if self.repeat else min(self.wanted(duration), total)
        return sample_indices(total, wanted) if self.ends else [-(-i * total // wanted) for i in range(wanted)]


@dataclass(frozen=True)
class Job:
    """What the process that decodes shall do with a file.

    Parameters
    ----------
    kind : {"picture", "film", "any"}
        ``"any"``: a picture, or a film where it is animated.
    pillow : bool
        By Pillow rather than PyAV.
    side : int or None
        Longer side of the frames that come back, in pixels; None: unscaled.
    spread : Spread
    """

    kind: Literal["picture", "film", "any"]
    pillow: bool
    side: int | None = None
    spread: Spread = Spread(count=1)
