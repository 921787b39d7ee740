"""Idefics3 and SmolVLM: crops between text tags, pixel shuffle, Llama decoder under its own name."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ._merged import MergedAdapter


class Idefics3Adapter(MergedAdapter):
    """Features come per sample; every crop gets its own budget."""

    family: ClassVar[str] = "idefics3"
    model_types: ClassVar[tuple[str, ...]] = (
        "idefics3",
        "smolvlm",
    )
    notes: ClassVar[str] = "Idefics3 and SmolVLM; every crop is an image of its own"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    towers: ClassVar[tuple[str, ...]] = ("vision_model",)

    def decoder(self, model: Any) -> nn.Module:
        """Text model."""
        return self.base(model).text_model

    def merge(self, model: Any) -> int:
        """Side of the merge groups."""
        return int(model.config.scale_factor)
