"""Gemma 3: SigLIP, average pooling, images that attend to themselves both ways."""

from __future__ import annotations

from ._merged import Merged
from .base import Adapter


class Gemma3Adapter(Adapter):
    """Pooling is the merge."""

    family = "gemma3"
    model_types = ("gemma3",)
    notes = "images attend both ways; sliding windows"
    prepared_masks = True
    image = Merged(tokens="mm_tokens_per_image")
    video = None
