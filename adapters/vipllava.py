"""VipLLaVA: several encoder layers, concatenated."""

from __future__ import annotations

from .base import Adapter


class VipLlavaAdapter(Adapter):
    """One feature row per patch."""

    family = "vipllava"
    model_types = ("vipllava",)
    notes = "features of several encoder layers"
    typical = {"has_class_token": True}
    video = None
