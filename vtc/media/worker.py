"""The process that decodes: one file, confined, its frames written to the standard output.

It is started by :mod:`vtc.media.child` with a job as JSON, and answers with one line of JSON and the frames' bytes. It
imports Pillow and PyAV, and neither torch nor anything else that is slow to start.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import films, pictures
from .limits import Job, Limits, Refused, Spread

if TYPE_CHECKING:
    from PIL.Image import Image


def main() -> None:
    """Do the job named by the first argument."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answer
    task = json.loads(sys.argv[1])
    spread, limits = Spread(**task["job"].pop("spread")), Limits(**task["limits"])
    confine(limits)
    answer, frames = _safely(Path(task["path"]), Job(**task["job"], spread=spread), limits)
    out.write(json.dumps(answer).encode() + b"\n")
    for frame in frames:
        out.write(frame.tobytes())
    out.flush()
    os._exit(0)  # a decoder that damaged its memory would crash now, behind a good answer


def confine(limits: Limits) -> None:
    """Limit memory and processor time of this process where the platform can."""
    from PIL import Image as pillow

    pillow.MAX_IMAGE_PIXELS = None  # sizes are checked here, and by limits of the caller
    try:
        import resource
    except ImportError:  # Windows
        return
    cpu = int(limits.seconds * (films.THREADS + 1)) + 1
    for kind, most in ((resource.RLIMIT_AS, limits.memory), (resource.RLIMIT_CPU, cpu), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS does not limit the address space
            continue


def _safely(path: Path, job: Job, limits: Limits) -> tuple[dict[str, Any], list[Image]]:
    """Answer and frames, or why there are none: decoders raise errors of many kinds over a damaged file."""
    try:
        return _done(path, job, limits)
    except ImportError as error:
        return {"failure": "missing", "reason": str(error)}, []
    except MemoryError:
        return {"failure": "memory"}, []
    except Refused as error:
        return {"failure": "refused", "reason": str(error)}, []
    except Exception as error:
        if os.environ.get("VTC_DEBUG", "0") not in ("", "0"):
            traceback.print_exc()
        return {"failure": "unreadable", "reason": _reason(error)}, []


def _reason(error: Exception) -> str:
    """Words of a decoder without its jargon."""
    if type(error).__name__ == "UnidentifiedImageError" or getattr(error, "errno", None) == errno.EINVAL:
        return "it has none of the known formats"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def _done(path: Path, job: Job, limits: Limits) -> tuple[dict[str, Any], list[Image]]:
    if job.kind == "picture" or (job.kind == "any" and not pictures.moves(path)):
        image = pictures.load(path, job.side, limits)
        pictures.check_returned(image.size, 1, limits)
        return {"size": image.size, "indices": None, "numbers": [0]}, [image]
    read = pictures.load_frames if job.pillow else films.load_frames
    frames, indices, fps, total = read(path, job.spread, job.side, limits)
    size = next(iter(frames.values())).size
    answer = {"size": size, "indices": indices, "numbers": list(frames), "fps": fps, "total": total}
    return answer, list(frames.values())
