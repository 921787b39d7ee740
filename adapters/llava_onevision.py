"""LLaVA-OneVision: tiles, shrunk beyond nine; several images without tiles; videos pooled 2 x 2."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vtc.core.layout import Role, Unit
from vtc.core.stage import Need

from ._anyres import AnyresAdapter
from ._merged import raster_groups
from .base import FeatureCall, FrameSeam


class LlavaOnevisionAdapter(AnyresAdapter):
    """Anyres for single images; every frame of a video is a partition and one newline ends the video."""

    family: ClassVar[str] = "llava_onevision"
    model_types: ClassVar[tuple[str, ...]] = ("llava_onevision",)
    notes: ClassVar[str] = "tiles (anyres_max_9), several images, video"

    def tiles(self, model: Any, call: FeatureCall) -> list[tuple[int, int] | None]:
        """Images of a sample with several are not tiled."""
        grids, counts = super().tiles(model, call), call.kwargs.get("batch_num_images")
        if counts is None:
            return grids
        alone = [int(n) == 1 for n in counts for _ in range(int(n))]
        return [g if one else None for g, one in zip(grids, alone, strict=True)]

    def pack(self, model: Any, call: FeatureCall, crops: list[Tensor], newline: Tensor) -> list[Tensor]:
        """``pack_image_features`` of the model."""
        ratio = call.kwargs.get("vision_aspect_ratio") or model.config.vision_aspect_ratio
        pack = self.base(model).pack_image_features
        return pack(crops, call.kwargs["image_sizes"], image_newline=newline, vision_aspect_ratio=ratio)[0]

    def _pool(self, model: Any, frames: Tensor) -> Tensor:
        """Pool ``[frames, N, C]`` as the model does."""
        return self.base(model).apply_pooling(frames)

    def frame_seam(self, model: Any) -> FrameSeam:
        """Frames leave the projector and are then interpolated."""
        side = self.side(model)
        return FrameSeam(self.base(model).multi_modal_projector, "output", (side, side), "bilinear", nn.Identity())

    def video_units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Frames of pooled patches, one newline at the end."""
        videos, frames = call.pixels.shape[:2]
        side = -(-self.side(model) // 2)
        n = frames * side * side
        end = torch.full((1,), frames - 1)
        part = torch.cat([torch.arange(frames).repeat_interleave(side * side), end])
        cell = torch.cat([torch.arange(side * side).repeat(frames), torch.full((1,), -1)])
        role = torch.zeros(n + 1, dtype=torch.long)
        role[-1] = Role.NEWLINE
        return [Unit("video", n + 1, None, part, cell, role, ((side, side),) * frames) for _ in range(videos)]

    def video_index(self, model: Any, call: FeatureCall) -> Tensor:
        """2 x 2 patches per row; odd sides are interpolated and have no such index."""
        assert call.shape is not None
        side, cut = self.side(model), self._cut(model, call)
        if side % 2:
            raise ValueError(
                f"Family {self.family!r} interpolates frames of {side} x {side} patches, so a feature row mixes parts "
                "of several patches and patches cannot be dropped inside the encoder; use a method that acts after the "
                "projector."
            )
        crops, width = call.shape
        one = raster_groups(side, side, 2) + cut
        index = one[None] + torch.arange(crops)[:, None, None] * width
        videos = call.pixels.shape[0]
        return torch.cat([index.reshape(videos, -1, 4), torch.full((videos, 1, 4), -1)], 1).reshape(-1, 4)

    def video_carry(self, model: Any, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Pooled as the features are, interpolation included."""
        values = torch.cat([self.patches_of(model, call, need, r) for r in raw])
        videos = call.pixels.shape[0]
        rows = self._pool(model, values[..., None])[..., 0].reshape(videos, -1)
        return torch.nn.functional.pad(rows, (0, 1), value=torch.nan).reshape(-1)
