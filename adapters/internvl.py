"""InternVL: tiles of fixed size, pixel shuffle, any decoder."""

from __future__ import annotations

from ._merged import Merged
from .base import Adapter


class InternVLAdapter(Adapter):
    """How many tiles make an image is not in the model's inputs: every tile gets its own budget."""

    family = "internvl"
    model_types = ("internvl",)
    notes = "every tile is an image of its own"
    typical = {"has_class_token": True}
    image = Merged(ratio="downsample_ratio")
    video = None
