"""Which frames of a video are looked at: more of them the longer it lasts (QuoTA, arXiv 2503.08689)."""

from __future__ import annotations

from collections.abc import Sequence

HOUR = 3600.0


def frame_count(duration: float, base: int = 96, extra: int = 64, cap: bool = True) -> int:
    """Frames to look at: ``base + int(duration / 3600 * extra)``.

    Parameters
    ----------
    duration : float
        Seconds.
    base, extra : int
        Frames of any video, and how many more an hour of it gets.
    cap : bool
        Count at most one hour, so that no video gets more than ``base + extra`` frames, as the paper states. The
        published code has no such limit (``cap=False``).

    Raises
    ------
    ValueError
        A number out of range.
    """
    if base < 1 or extra < 0:
        raise ValueError(f"base={base}, extra={extra} is not allowed: pass base >= 1 and extra >= 0 frames.")
    if not 0 <= duration < float("inf"):
        raise ValueError(f"duration={duration!r} is not allowed: pass a number of seconds >= 0.")
    return base + int((min(duration, HOUR) if cap else duration) / HOUR * extra)


def sample_indices(total: int, count: int) -> list[int]:
    """``count`` frame numbers spread evenly over ``0 .. total - 1``, rounded down; with ``count > total`` some repeat.

    Raises
    ------
    ValueError
        A number below 1.
    """
    import numpy as np

    if total < 1 or count < 1:
        raise ValueError(f"total={total}, count={count} is not allowed: both are numbers of frames and must be >= 1.")
    # numpy's own rounding decides where an exact position is an integer
    return np.linspace(0, total - 1, count, dtype=int).tolist()


def frame_times(indices: Sequence[int], fps: float) -> list[float]:
    """Seconds from the start of the video to each frame.

    Raises
    ------
    ValueError
        ``fps`` is not positive.
    """
    if not fps > 0:
        raise ValueError(f"fps={fps!r} is not allowed: frames per second must be > 0.")
    return [index / fps for index in indices]


def time_stamps(times: Sequence[float]) -> str:
    """Times as the prompts of the paper write them: ``"0.00s,2.97s,5.97s"``."""
    return ",".join(f"{time:.2f}s" for time in times)


def time_sentence(duration: float, times: Sequence[float]) -> str:
    """Sentence for the prompt that tells a model how long the video is and when its frames were taken."""
    return (
        f"The video is {duration:.2f} seconds long; you see {len(times)} frames of it, taken at {time_stamps(times)}."
    )
