"""Video-LLaVA: one tower for images, another for video, whose frames keep their [CLS] row."""

from __future__ import annotations

from ._frames import ClassFrames
from ._plain import Plain
from .base import Adapter


class VideoLlavaAdapter(Adapter):
    """Every frame of a video is a partition."""

    family = "video_llava"
    model_types = ("video_llava",)
    notes = "images and video, a tower for each"
    typical = {"has_class_token": True}
    towers = ("{modality}_tower",)
    image = Plain()
    video = ClassFrames()
