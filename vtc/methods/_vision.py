"""Which encoder layers and which attention statistic a method that scores patches can read."""

from __future__ import annotations

from typing import Literal

from ..core.stage import ModelFacts


def attention_stat(facts: ModelFacts) -> Literal["class_row", "received"]:
    """Attention of [CLS] where the encoder has one, else the attention a patch receives."""
    return "class_row" if facts.has_class_token else "received"


def whole_image_layers(facts: ModelFacts, method: str) -> list[int]:
    """Layers up to the one that makes the features whose attention can rank the patches of a whole image.

    All of them with [CLS]; without it only those that attend to the whole image, because inside a window the
    received attention sums to a constant and cannot rank windows against each other.

    Raises
    ------
    ValueError
        The model has no readable vision tower or no such layer.
    """
    if facts.vision_layers == 0:
        raise ValueError(
            f"{method} reads attention of the vision encoder, and none was found for family "
            f"{facts.family!r}. Use a method that needs features only: 'divprune', 'pool' or 'random'."
        )
    if facts.has_class_token:
        return list(range(facts.feature_layer + 1))
    whole = [i for i in facts.global_layers if i <= facts.feature_layer]
    if not whole:
        raise ValueError(
            f"{method}: family {facts.family!r} has no encoder layer that attends to the whole image. Use "
            "a method that needs features only, such as 'divprune', 'pool' or 'random'."
        )
    return whole
