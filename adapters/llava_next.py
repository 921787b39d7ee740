"""LLaVA-NeXT (LLaVA-1.6): base crop and tiles, unpadded, a newline after every row."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ._anyres import AnyresAdapter
from .base import FeatureCall


class LlavaNextAdapter(AnyresAdapter):
    """Partition 0 is the whole image, the others are tiles."""

    family: ClassVar[str] = "llava_next"
    model_types: ClassVar[tuple[str, ...]] = ("llava_next",)
    notes: ClassVar[str] = "LLaVA-1.6; tiles (anyres)"
    typical: ClassVar[dict[str, Any]] = {"has_class_token": True}
    modalities: ClassVar[tuple[str, ...]] = ("image",)

    def pack(self, model: Any, call: FeatureCall, crops: list[Tensor], newline: Tensor) -> list[Tensor]:
        """``pack_image_features`` of the model."""
        pack = self.base(model).pack_image_features
        # "full": the crops carry no [CLS] row, and the model would warn about that
        return pack(crops, call.kwargs["image_sizes"], "full", image_newline=newline)[0]
