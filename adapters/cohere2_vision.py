"""Command A Vision: SigLIP tiles, pixel shuffle, Cohere2 decoder."""

from __future__ import annotations

from typing import Any, ClassVar

from ._merged import MergedAdapter


class Cohere2VisionAdapter(MergedAdapter):
    """Every tile gets its own budget."""

    family: ClassVar[str] = "cohere2_vision"
    model_types: ClassVar[tuple[str, ...]] = ("cohere2_vision",)
    notes: ClassVar[str] = "every tile is an image of its own"
    modalities: ClassVar[tuple[str, ...]] = ("image",)

    def merge(self, model: Any) -> int:
        """Side of the merge groups."""
        return int(model.config.downsample_factor)
