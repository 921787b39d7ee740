"""Starting from a smaller model: its weights where they fit, neutral ones where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional


def _silence(layer: Any) -> None:
    """Make a new encoder layer hand its input on, until it learns better."""
    for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)


def _copy_rows(mine: torch.Tensor, theirs: torch.Tensor, ids: Mapping[str, int], old: Mapping[str, int]) -> None:
    for token, row in ids.items():
        if token in old:
            mine[row] = theirs[old[token]]


def _interpolated(table: torch.Tensor, side: int) -> torch.Tensor:
    """Position table [1 + n * n, D] for a grid of ``side`` x ``side`` tokens."""
    old = round((len(table) - 1) ** 0.5)
    grid = table[1:].T.reshape(1, -1, old, old)
    wide = functional.interpolate(grid, (side, side), mode="bilinear", align_corners=False)
    return torch.cat([table[:1], wide.flatten(2)[0].T])


@torch.no_grad()
def warm_decoder(model: Any, old_model: Any, ids: Mapping[str, int], old_ids: Mapping[str, int]) -> None:
    """Copy a decoder of the same shape; embeddings and output rows go by token."""
    mine, theirs = model.model.language_model, old_model.model.language_model
    weights = {k: v for k, v in theirs.state_dict().items() if "embed_tokens" not in k}
    mine.load_state_dict(weights, strict=False)
    _copy_rows(mine.embed_tokens.weight, theirs.embed_tokens.weight, ids, old_ids)
    _copy_rows(model.lm_head.weight, old_model.lm_head.weight, ids, old_ids)


@torch.no_grad()
def warm_llava(model: Any, old_model: Any, ids: Mapping[str, int], old_ids: Mapping[str, int], side: int) -> None:
    """Copy everything up to where the old model takes its features; later layers start as identities.

    Parameters
    ----------
    model, old_model : LlavaForConditionalGeneration
        Of the same widths, patch size and decoder.
    ids, old_ids : mapping of token to id
    side : int
        Image tokens per side of the new model.
    """
    warm_decoder(model, old_model, ids, old_ids)
    model.model.multi_modal_projector.load_state_dict(old_model.model.multi_modal_projector.state_dict())
    mine, theirs = model.model.vision_tower, old_model.model.vision_tower
    used = len(theirs.encoder.layers) + 1 + old_model.config.vision_feature_layer
    for i, layer in enumerate(mine.encoder.layers):
        if i < used:
            layer.load_state_dict(theirs.encoder.layers[i].state_dict())
        else:
            _silence(layer)
    mine.pre_layrnorm.load_state_dict(theirs.pre_layrnorm.state_dict())
    mine.embeddings.class_embedding.copy_(theirs.embeddings.class_embedding)
    mine.embeddings.patch_embedding.load_state_dict(theirs.embeddings.patch_embedding.state_dict())
    mine.embeddings.position_embedding.weight.copy_(_interpolated(theirs.embeddings.position_embedding.weight, side))
