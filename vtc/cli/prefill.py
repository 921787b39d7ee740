"""One forward of a patched model: what a method keeps of an image, without an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import vtc
from vtc.core.budget import Keep

if TYPE_CHECKING:
    from PIL.Image import Image

    from .loading import Loaded


def prefill(loaded: Loaded, method: str, keep: Keep, image: Image, question: str) -> tuple[Any, str]:
    """Record of the image, and the name of the method (``"auto"`` resolved); unpatches afterwards.

    Raises
    ------
    ValueError
        The method cannot run on this model.
    """
    import torch

    from vtc.chat import build_inputs

    inputs = build_inputs(loaded.processor, [([image], question)], loaded.model.device)
    with vtc.patched(loaded.model, method, keep=keep, processor=loaded.processor) as handle:
        with torch.no_grad():
            loaded.model(**inputs)
        if handle.last is None:
            raise ValueError("The model took no image from this prompt.")
        return handle.last.images[0], "+".join(m.name for m in handle.methods)
