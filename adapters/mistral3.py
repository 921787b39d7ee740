"""Mistral 3: Pixtral tower, 2 x 2 patch merger, a break token after every row of patches."""

from __future__ import annotations

from ._merged import MergedSizes
from .base import Adapter


class Mistral3Adapter(Adapter):
    """Break tokens are text and stay."""

    family = "mistral3"
    model_types = ("mistral3",)
    notes = "images of any size; row breaks stay"
    image = MergedSizes(merge="spatial_merge_size")
    video = None
