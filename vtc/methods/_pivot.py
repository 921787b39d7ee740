"""Where ToDRE's greedy selection starts, and which text is a system prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..core.select import require_finite
from ..core.stage import ModelFacts, Need, View


def thumbnail_first(view: View, rows: Tensor) -> Tensor:
    """Positions in ``rows`` a [CLS] pivot may come from: base crops of tiled images, all of the others."""
    allowed = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    for ordinal, unit in enumerate(view.units):
        mine = view.unit[rows] == ordinal
        base = mine & (view.part[rows] == 0)
        if unit.modality == "image" and bool(base.any()):
            allowed &= ~mine | base
    return allowed.nonzero(as_tuple=True)[0]


def chat_header(processor: Any) -> int | None:
    """Tokens that the chat template of a processor writes before the user's first word; None without a template."""
    template, tokenizer = getattr(processor, "chat_template", None), getattr(processor, "tokenizer", processor)
    if not template:
        return None
    mark = "\u2042"
    message = {"role": "user", "content": [{"type": "text", "text": mark}]}
    head = str(processor.apply_chat_template([message], tokenize=False)).split(mark)[0]
    return len(tokenizer(head).input_ids)


def class_need(facts: ModelFacts, layer: int) -> Need:
    """[CLS] attention of an encoder layer, negative from the end.

    Raises
    ------
    ValueError
        The encoder has no [CLS], or no such layer.
    """
    if not facts.has_class_token:
        raise ValueError(
            f"pivot='cls' needs a [CLS] token, which the vision encoder of family {facts.family!r} "
            "has not. Pass pivot='farthest' (deterministic), 'center' or 'random'."
        )
    chosen = layer + facts.vision_layers if layer < 0 else layer
    if not 0 <= chosen < facts.vision_layers:
        raise ValueError(f"cls_layer={layer} does not exist: the encoder has {facts.vision_layers} layers.")
    return Need("vision", chosen, "class_row")


def most_attended(view: View, rows: Tensor, attention: Tensor) -> Tensor:
    """Position in ``rows`` of the patch with the most [CLS] attention [N] of those it may come from."""
    require_finite(attention[rows], "The [CLS] attentions of the visual tokens")
    allowed = thumbnail_first(view, rows)
    return allowed[attention[rows][allowed].argmax()]
