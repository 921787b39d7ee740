"""LLaVA-1.5 and its kin: CLIP, SigLIP or Pixtral tower, two-layer projector, any decoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from vtc.core.layout import Unit

from .base import Adapter, FeatureCall, square, with_class_row


class LlavaAdapter(Adapter):
    """One feature row per patch; Pixtral packs images of any size into one sequence."""

    family: ClassVar[str] = "llava"
    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    notes: ClassVar[str] = "LLaVA-1.5; CLIP, SigLIP and Pixtral towers"
    modalities: ClassVar[tuple[str, ...]] = ("image",)

    def units(self, model: nn.Module, call: FeatureCall) -> list[Unit]:
        """Square lattices; Pixtral's from ``image_sizes``; a kept [CLS] row is marked."""
        lengths = self.lengths(call)
        sizes = call.kwargs.get("image_sizes")
        if sizes is not None:
            patch = self.tower(model).patch_size  # type: ignore[union-attr]
            grids = [(1, int(h) // patch, int(w) // patch) for h, w in torch.as_tensor(sizes).tolist()]
            return [Unit("image", n, grid=g) for n, g in zip(lengths, grids, strict=True)]
        full = call.kwargs.get("vision_feature_select_strategy") or model.config.vision_feature_select_strategy
        units = [Unit("image", n, grid=square(n)) for n in lengths]
        if full == "full" and self.has_class_token(model):
            return [with_class_row(u) for u in units]
        return units
