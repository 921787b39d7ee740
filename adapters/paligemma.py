"""PaliGemma 1 and 2: SigLIP, one linear layer, a prefix that attends both ways."""

from __future__ import annotations

from ._merged import Merged
from .base import Adapter


class PaliGemmaAdapter(Adapter):
    """Nothing is merged."""

    family = "paligemma"
    model_types = ("paligemma",)
    notes = "PaliGemma 1 and 2; the prefix attends both ways"
    prepared_masks = True
    image = Merged()
    video = None
