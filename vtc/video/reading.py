"""Read sampled frames of a video file with PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .sampling import frame_count, frame_times, sample_indices, time_sentence

if TYPE_CHECKING:
    from PIL.Image import Image


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


def read_video(path: str | Path, base: int = 96, extra: int = 64, cap: bool = True, count: int | None = None) -> Clip:
    """Read frames spread evenly over a video; see :func:`vtc.video.frame_count` for how many.

    Parameters
    ----------
    path : str or Path
    base, extra, cap
        See :func:`vtc.video.frame_count`.
    count : int or None
        Read so many frames instead.

    Raises
    ------
    ImportError
        PyAV is missing.
    FileNotFoundError
        No such file.
    ValueError
        The file is no video, holds no frame or only one, or is damaged; the message says which.

    Notes
    -----
    The file is decoded from the start and frames are counted, so that every index is exact also where key frames are
    rare; only the sampled frames are kept in memory. Where a file holds fewer frames than it claims, the frames that
    are there are sampled.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no video file {str(path)!r}.")
    total, fps = _facts(path)
    if total == 0:
        total = _decode(path, [])[1]
    while True:
        if total < 2:
            holds = "no frame" if total == 0 else "only one frame, which is a picture: pass it as an image"
            raise ValueError(f"The video {path.name!r} holds {holds}.")
        wanted = frame_count(total / fps, base, extra, cap) if count is None else count
        indices = sample_indices(total, wanted)
        frames, found = _decode(path, indices)
        if len(frames) == len(set(indices)):
            return Clip([frames[i] for i in indices], indices, frame_times(indices, fps), fps, total)
        total = found


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError("Reading videos needs PyAV: pip install av (or pip install 'vtc[video]').") from None
    return av


def _open(path: Path) -> Any:
    av = _av()
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(
            f"{path.name!r} cannot be read as a video ({error}): it is damaged, or no video at all."
        ) from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path.name!r} holds no picture track.")
    return container


def _facts(path: Path) -> tuple[int, float]:
    """Frames the file says it holds (0: it does not say), and frames per second."""
    with _open(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        if not rate:
            raise ValueError(f"{path.name!r} does not say how many frames per second it has.")
        return int(stream.frames or 0), float(rate)


def _decode(path: Path, indices: Sequence[int]) -> tuple[dict[int, Image], int]:
    """Wanted frames by index, and how many frames were counted; stops behind the last wanted one."""
    av, wanted, frames, number = _av(), set(indices), {}, 0
    last = max(indices, default=None)
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                if number in wanted:
                    frames[number] = frame.to_image()
                number += 1
                if last is not None and number > last:
                    break
        except av.error.FFmpegError as error:
            raise ValueError(f"The video {path.name!r} is damaged: frame {number} cannot be read ({error}).") from error
    return frames, number
