"""Video-LLaVA: one tower for images, another for video, whose frames keep their [CLS] row."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from vtc.core.layout import Role, Unit

from .base import Adapter, FeatureCall


class VideoLlavaAdapter(Adapter):
    """Every frame of a video is a partition."""

    family: ClassVar[str] = "video_llava"
    model_types: ClassVar[tuple[str, ...]] = ("video_llava",)
    notes: ClassVar[str] = "images and video, a tower for each"
    typical: ClassVar[dict[str, Any]] = {"has_class_token": True}

    def tower(self, model: Any, modality: str = "image") -> nn.Module | None:
        """Tower of the modality."""
        return getattr(self.base(model), f"{modality}_tower", None)

    def keeps_class_row(self, model: Any, call: FeatureCall) -> bool:
        """Videos always keep it."""
        return call.modality == "video" or super().keeps_class_row(model, call)

    def units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Frames of [CLS] and patches."""
        if call.modality == "image":
            return super().units(model, call)
        videos, frames = call.pixels.shape[:2]
        length = self.lengths(model, call)[0]
        side = round((length - 1) ** 0.5)
        part = torch.arange(frames).repeat_interleave(length)
        cell = torch.arange(-1, length - 1).repeat(frames)
        role = torch.where(cell < 0, int(Role.CLASS), int(Role.PATCH))
        return [Unit("video", len(part), None, part, cell, role, ((side, side),) * frames) for _ in range(videos)]
