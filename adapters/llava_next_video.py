"""LLaVA-NeXT-Video: tiles for images, pooled frames for video."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.core.layout import Unit
from vtc.core.stage import Need

from ._merged import raster_groups
from .base import Adapter, FeatureCall, FrameSeam
from .llava_next import LlavaNextAdapter


class LlavaNextVideoAdapter(LlavaNextAdapter):
    """Every frame of a video is a partition."""

    family: ClassVar[str] = "llava_next_video"
    model_types: ClassVar[tuple[str, ...]] = ("llava_next_video",)
    notes: ClassVar[str] = "tiles (anyres), video"
    modalities: ClassVar[tuple[str, ...]] = ("image", "video")

    def frame_seam(self, model: Any) -> FrameSeam | None:
        """Frames are averaged before the projector; checkpoints that pool otherwise are resampled behind it."""
        if model.config.spatial_pool_mode != "average":
            return None
        base, side = self.base(model), self.side(model)
        return FrameSeam(base.vision_resampler, "input", (side, side), "average", base.multi_modal_projector)

    def video_units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Lattices of pooled frames."""
        videos, frames = call.pixels.shape[:2]
        side = self.side(model) // model.config.spatial_pool_stride
        return [Unit("video", frames * side * side, grid=(frames, side, side)) for _ in range(videos)]

    def video_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Pooling windows of every frame."""
        assert call.shape is not None
        groups = raster_groups(self.side(model), self.side(model), model.config.spatial_pool_stride)
        groups = groups + self._cut(model, call)
        return (groups[None] + torch.arange(call.shape[0])[:, None, None] * call.shape[1]).flatten(0, 1)

    def video_carry(self, model: Any, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Means over the pooling windows."""
        return Adapter.carry(self, model, call, need, raw)
