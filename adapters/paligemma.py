"""PaliGemma 1 and 2: SigLIP, one linear layer, a prefix that attends both ways."""

from __future__ import annotations

from typing import Any, ClassVar

from ._merged import MergedAdapter


class PaliGemmaAdapter(MergedAdapter):
    """Nothing is merged."""

    family: ClassVar[str] = "paligemma"
    model_types: ClassVar[tuple[str, ...]] = ("paligemma",)
    notes: ClassVar[str] = "PaliGemma 1 and 2; the prefix attends both ways"
    modalities: ClassVar[tuple[str, ...]] = ("image",)
    prepared_masks: ClassVar[bool] = True

    def merge(self, model: Any) -> int:
        """Side of the merge groups."""
        return 1
