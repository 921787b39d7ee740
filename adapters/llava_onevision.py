"""LLaVA-OneVision: tiles, shrunk beyond nine; several images without tiles; videos pooled 2 x 2."""

from __future__ import annotations

from ._anyres import Anyres
from ._frames import InterpolatedFrames
from .base import Adapter


class LlavaOnevisionAdapter(Adapter):
    """Anyres for single images; every frame of a video is a partition and one newline ends the video."""

    family = "llava_onevision"
    model_types = ("llava_onevision",)
    notes = "tiles (anyres_max_9), several images, video"
    image = Anyres(asked=("vision_aspect_ratio",))
    video = InterpolatedFrames()
