"""Embedded models as checkpoints that a class of lmms-eval can load."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from vtc.demos.embedded import EMBEDDED, load_embedded

from vtc.version import __version__

from .bases import GENERIC
from .tasks import cache


def arguments(name: str) -> dict[str, Any]:
    """Arguments with which the base class answers as ``vtc eval quality`` does: same weights, float32, same prompt.

    A model that is built in code is written into the cache first; it goes through the generic base, because
    lmms-eval's own Qwen classes run in bfloat16 and enlarge small pictures.
    """
    import torch

    torch.set_num_threads(1)  # too small to gain from more threads, which only wait for one another
    path = EMBEDDED[name].path
    if path is not None:
        return {"pretrained": str(path), "dtype": "float32"}
    return {"pretrained": str(_written(name)), "dtype": "float32", "base": GENERIC}


def _written(name: str) -> Path:
    place = cache().parent / "models" / f"{name}-{__version__}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=place.parent, prefix=".draft-"))
    try:
        model, processor = load_embedded(name)
        model.save_pretrained(draft)
        processor.save_pretrained(draft)
        try:
            draft.rename(place)
        except OSError:  # another process was faster
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place
