"""VipLLaVA: several encoder layers, concatenated."""

from __future__ import annotations

from typing import Any, ClassVar

from .base import Adapter


class VipLlavaAdapter(Adapter):
    """One feature row per patch."""

    family: ClassVar[str] = "vipllava"
    model_types: ClassVar[tuple[str, ...]] = ("vipllava",)
    notes: ClassVar[str] = "features of several encoder layers"
    typical: ClassVar[dict[str, Any]] = {"has_class_token": True}
    modalities: ClassVar[tuple[str, ...]] = ("image",)
