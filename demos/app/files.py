"""Pictures as files that are complete before anybody can fetch them."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import time
from pathlib import Path

from PIL import Image

from .limits import KEEP_SECONDS


def stored(image: Image.Image) -> str:
    """Write a picture and return its file, the same one for the same picture.

    A PIL image that is handed to gradio is written again at every event, over the file that a browser may be
    fetching at that moment; the browser then shows a broken picture. A file is copied once, and atomically.
    """
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()) / "drawn"
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    path = folder / f"{hashlib.sha256(buffer.getvalue()).hexdigest()[:32]}.png"
    if not path.exists():
        _forget_old(folder)
        handle, staged = tempfile.mkstemp(dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
        os.replace(staged, path)
    return str(path)


def _forget_old(folder: Path) -> None:
    for path in folder.iterdir():
        if time.time() - path.stat().st_mtime > KEEP_SECONDS:
            path.unlink(missing_ok=True)
