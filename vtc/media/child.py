"""Start the process that decodes, and take its answer or the reason why there is none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from .limits import Job, Limits

if TYPE_CHECKING:
    from PIL.Image import Image

Noun = Literal["picture", "video", "picture or video"]
_PICTURES = "PNG, JPEG, WebP, GIF, BMP, TIFF or PPM"
_VIDEOS = "MP4, MOV, Matroska, WebM, AVI, MPEG, FLV, Ogg, WMV or an animated GIF, PNG or WebP"
_FORMATS: dict[Noun, str] = {
    "picture": f"Use {_PICTURES}",
    "video": f"Use {_VIDEOS}",
    "picture or video": f"Use {_PICTURES} for a picture, and {_VIDEOS} for a video",
}
WHY: dict[Noun, str] = {
    "picture": "it is broken, or not an image at all",
    "video": "it is damaged, or no video at all",
    "picture or video": "it is broken, or neither of them",
}
# the modules this process finds, whatever folder or notebook it was started from; nothing of its main module is run
_START = "import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep); from vtc.media.worker import main; main()"
_LONGEST_ANSWER = 1 << 24


def decode(path: Path, noun: Noun, job: Job, limits: Limits) -> tuple[dict[str, Any], list[Image]]:
    """Decode a file in a process of its own.

    Parameters
    ----------
    path : pathlib.Path
        A regular file.
    noun : {"picture", "video", "picture or video"}
        What messages call it.
    job : Job
    limits : Limits

    Returns
    -------
    answer : dict
        ``indices`` (None for a picture), ``numbers`` of the frames, ``fps`` and ``total``.
    frames : list of PIL.Image.Image
        RGB, all of one size.

    Raises
    ------
    ImportError
        PyAV is missing.
    ValueError
        The file is refused, damaged, beyond a limit, or made the decoder crash.
    """
    task = json.dumps({"path": str(path.resolve()), "job": asdict(job), "limits": asdict(limits)})
    with _started(task, limits.seconds) as (process, expired):
        assert process.stdout is not None
        try:
            answer = json.loads(process.stdout.readline(_LONGEST_ANSWER))
            frames = [] if "failure" in answer else list(_frames(process.stdout, answer))
        except (EOFError, json.JSONDecodeError):
            raise ValueError(_crashed(path, noun, process.wait(), expired.is_set(), limits)) from None
    if "failure" in answer:
        raise _failure(path, noun, answer, limits)
    return answer, frames


@contextmanager
def _started(task: str, seconds: float) -> Iterator[tuple[subprocess.Popen[bytes], threading.Event]]:
    """A running worker, and whether its time ran out; it is gone afterwards, whatever happened."""
    if not sys.executable:
        raise RuntimeError("Files are decoded by a second Python, and sys.executable does not name one: set it.")
    words = [sys.executable, "-c", _START, os.pathsep.join(map(str, sys.path)), task]
    # a maths library reserves memory for every thread it might start
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    told = None if os.environ.get("VTC_DEBUG", "0") not in ("", "0") else subprocess.DEVNULL
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told, env=environment, close_fds=True
    )
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield process, expired
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _frames(stream: IO[bytes], answer: dict[str, Any]) -> Iterator[Image]:
    from PIL import Image as pillow

    width, height = answer["size"]
    for _ in answer["numbers"]:
        data = stream.read(3 * width * height)
        if len(data) < 3 * width * height:
            raise EOFError
        yield pillow.frombytes("RGB", (width, height), data)


def _crashed(path: Path, noun: Noun, status: int, expired: bool, limits: Limits) -> str:
    cpu = getattr(signal, "SIGXCPU", None)
    if expired or (cpu is not None and status == -cpu):
        return (
            f"{path.name!r} cannot be read as a {noun}: it takes more than {limits.seconds:.0f} s. Cut it or scale it "
            "down, or allow more time (limits=vtc.media.Limits(seconds=...))."
        )
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return (
        f"{path.name!r} cannot be read as a {noun}: its decoder crashed ({how}), so the file is damaged. Write it "
        "anew, such as with `ffmpeg -i OLD NEW`, or use another file."
    )


def _failure(path: Path, noun: Noun, answer: dict[str, Any], limits: Limits) -> Exception:
    if answer["failure"] == "missing":
        return ImportError("Reading videos needs PyAV: pip install av (or pip install 'vtc[video]').")
    if answer["failure"] == "refused":
        return ValueError(f"{path.name!r} cannot be read as a {noun}. {answer['reason']}")
    if answer["failure"] == "memory":
        return ValueError(
            f"{path.name!r} cannot be read as a {noun}: it needs more than {limits.memory / 2**30:.3g} GiB of memory. "
            "Scale it down first."
        )
    reason = str(answer["reason"]).replace(str(path.resolve()), path.name)
    return ValueError(f"{path.name!r} cannot be read as a {noun} ({reason}): {WHY[noun]}. {_FORMATS[noun]}.")
