"""Idefics3 and SmolVLM: crops between text tags, pixel shuffle, Llama decoder under its own name."""

from __future__ import annotations

from ._merged import Merged
from .base import Adapter


class Idefics3Adapter(Adapter):
    """Features come per sample; every crop gets its own budget."""

    family = "idefics3"
    model_types = ("idefics3", "smolvlm")
    notes = "Idefics3 and SmolVLM; every crop is an image of its own"
    decoder_path = "base_model.text_model"
    towers = ("vision_model",)
    image = Merged(merge="scale_factor")
    video = None
