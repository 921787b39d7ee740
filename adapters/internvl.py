"""InternVL: tiles of fixed size, pixel shuffle, any decoder."""

from __future__ import annotations

from typing import Any, ClassVar

from ._merged import MergedAdapter


class InternVLAdapter(MergedAdapter):
    """How many tiles make an image is not in the model's inputs: every tile gets its own budget."""

    family: ClassVar[str] = "internvl"
    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    notes: ClassVar[str] = "every tile is an image of its own"
    typical: ClassVar[dict[str, Any]] = {"has_class_token": True}
    modalities: ClassVar[tuple[str, ...]] = ("image",)

    def merge(self, model: Any) -> int:
        """Side of the merge groups."""
        return round(1 / model.config.downsample_ratio)
