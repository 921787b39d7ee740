"""LLaVA-NeXT (LLaVA-1.6) and LLaVA-NeXT-Video: base crop and tiles, unpadded, a newline after every row."""

from __future__ import annotations

from ._anyres import Anyres
from ._frames import PooledFrames
from .base import Adapter
from .geometry import Geometry


class LlavaNextAdapter(Adapter):
    """Partition 0 is the whole image, the others are tiles."""

    family = "llava_next"
    model_types = ("llava_next",)
    notes = "LLaVA-1.6; tiles (anyres)"
    typical = {"has_class_token": True}
    # "full": the crops that are packed carry no [CLS] row, and the model would warn about that
    image = Anyres(options={"vision_feature_select_strategy": "full"})
    video: Geometry | None = None


class LlavaNextVideoAdapter(LlavaNextAdapter):
    """Every frame of a video is a partition."""

    family = "llava_next_video"
    model_types = ("llava_next_video",)
    notes = "tiles (anyres), video"
    video = PooledFrames()
