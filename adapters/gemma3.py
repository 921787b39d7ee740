"""Gemma 3: SigLIP, average pooling, images that attend to themselves both ways."""

from __future__ import annotations

from typing import Any, ClassVar

from ._merged import MergedAdapter


class Gemma3Adapter(MergedAdapter):
    """Pooling is the merge."""

    family: ClassVar[str] = "gemma3"
    model_types: ClassVar[tuple[str, ...]] = ("gemma3",)
    notes: ClassVar[str] = "images attend both ways; sliding windows"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    prepared_masks: ClassVar[bool] = True

    def merge(self, model: Any) -> int:
        """Side of the merge groups."""
        return self.side(model) // round(model.config.mm_tokens_per_image**0.5)
