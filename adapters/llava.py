"""LLaVA-1.5 and its kin: CLIP, SigLIP or Pixtral tower, two-layer projector, any decoder."""

from __future__ import annotations

from ._plain import Plain
from .base import Adapter


class LlavaAdapter(Adapter):
    """One feature row per patch; Pixtral packs images of any size into one sequence."""

    family = "llava"
    model_types = ("llava",)
    notes = "LLaVA-1.5; CLIP, SigLIP and Pixtral towers"
    typical = {"has_class_token": True}
    image = Plain(sized=True)
    video = None
