"""LLaVA-1.5 and its kin: CLIP, SigLIP or Pixtral tower, two-layer projector, any decoder."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from vtc.core.layout import Unit

from .base import Adapter, FeatureCall


class LlavaAdapter(Adapter):
    """One feature row per patch; Pixtral packs images of any size into one sequence."""

    family: ClassVar[str] = "llava"
    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    notes: ClassVar[str] = "LLaVA-1.5; CLIP, SigLIP and Pixtral towers"
    typical: ClassVar[dict[str, Any]] = {"has_class_token": True}
    modalities: ClassVar[tuple[str, ...]] = ("image",)

    def units(self, model: nn.Module, call: FeatureCall) -> list[Unit]:
        """Square lattices; Pixtral's from ``image_sizes``."""
        grids = self._pixtral_grids(model, call)
        return [Unit("image", h * w, grid=(1, h, w)) for h, w in grids] if grids else super().units(model, call)

    def _pixtral_grids(self, model: nn.Module, call: FeatureCall) -> list[tuple[int, int]]:
        sizes = call.kwargs.get("image_sizes")
        if sizes is None:
            return []
        patch: int = self.tower(model).patch_size
        return [(int(h) // patch, int(w) // patch) for h, w in torch.as_tensor(sizes).tolist()]
