"""Temporary files: pictures that are complete before anybody can fetch them, uploads, and the bound on both."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from .limits import KEEP_SECONDS, MAX_FILE, MAX_KEPT, MAX_KEPT_FILES, MIB

_DRAWN = "drawn"
_SPARED: set[Path] = set()


def folder() -> Path:
    """Where gradio keeps uploads and we keep what we draw."""
    return Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio").resolve()


def stored(image: Image.Image) -> str:
    """Write a picture and return its file, the same one for the same picture.

    A PIL image that is handed to gradio is written again at every event, over the file that a browser may be
    fetching at that moment; the browser then shows a broken picture. A file is copied once, and atomically.
    """
    place = folder() / _DRAWN
    place.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    path = place / f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:32]}.png"
    if not path.exists():
        handle, staged = tempfile.mkstemp(dir=place)
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.replace(staged, path)
        trim(folder())
    return str(path)


def uploaded(path: object) -> Path:
    """File of an upload.

    Raises
    ------
    ValueError
        Something else: a list, a path elsewhere, one of our own pictures, or a file that is gone or too large.
    """
    if not isinstance(path, str):
        raise ValueError("One picture or video at a time, please.")
    file, place = Path(path).resolve(), folder()
    if place not in file.parents or (place / _DRAWN) in file.parents or not file.is_file():
        raise ValueError("That file is no upload, or it is gone: upload it again.")
    if file.stat().st_size > MAX_FILE:
        raise ValueError(f"The file is larger than the {MAX_FILE // MIB} MB that are taken.")
    return file


def spare_present() -> None:
    """Never delete what is there now: the pictures every new page begins with."""
    _SPARED.update(path for path, *_ in _found(folder()))


def trim(place: Path, most: int = MAX_KEPT, count: int = MAX_KEPT_FILES) -> None:
    """Delete drawn pictures that are too old, then the oldest files until ``most`` bytes in ``count`` files stay."""
    now = time.time()
    kept = sorted((entry for entry in _found(place) if entry[0] not in _SPARED), key=lambda entry: entry[1])
    total = sum(size for *_, size in kept)
    for number, (path, age, size) in enumerate(kept):
        # gradio looks after the age of uploads itself
        old = path.parent.name == _DRAWN and now - age > KEEP_SECONDS
        if not old and total <= most and len(kept) - number <= count:
            continue
        path.unlink(missing_ok=True)
        total -= size
        if path.parent != place:
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()  # the folder that gradio makes for every upload


def _found(place: Path) -> list[tuple[Path, float, int]]:
    """Files below a folder with their times and sizes; others may be deleting them meanwhile."""
    found = []
    for root, _, names in os.walk(place):
        for path in (Path(root) / name for name in names):
            with contextlib.suppress(OSError):
                facts = path.lstat()
                found.append((path, facts.st_mtime, facts.st_size))
    return found
