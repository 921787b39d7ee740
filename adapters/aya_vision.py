"""Aya Vision and Command A Vision: SigLIP tiles, pixel shuffle, Cohere2 decoder."""

from __future__ import annotations

from ._merged import Merged
from .base import Adapter


class AyaVisionAdapter(Adapter):
    """Every tile gets its own budget."""

    family = "aya_vision"
    model_types = ("aya_vision",)
    notes = "every tile is an image of its own"
    image = Merged(merge="downsample_factor")
    video = None


class Cohere2VisionAdapter(AyaVisionAdapter):
    """Command A Vision."""

    family = "cohere2_vision"
    model_types = ("cohere2_vision",)
