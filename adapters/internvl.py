"""InternVL: tiles of fixed size, pixel shuffle, any decoder."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from ._merged import MergedAdapter


class InternVLAdapter(MergedAdapter):
    """How many tiles make an image is not in the model's inputs: every tile gets its own budget."""

    family: ClassVar[str] = "internvl"
    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    notes: ClassVar[str] = "every tile is an image of its own"
    modalities: ClassVar[tuple[str, ...]] = ("image",)

    def merge(self, model: nn.Module) -> int:
        """Side of the merge groups."""
        return round(1 / model.config.downsample_ratio)
