"""Attention masks for layers that hold other numbers of tokens than the rest, built by transformers' own functions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache
from transformers.masking_utils import (
    create_causal_mask,
    create_chunked_causal_mask,
    create_sliding_window_causal_mask,
)

from ..core.layout import Packing
from .cache import dropped, join_valid, past_valid, stored

MAKERS = {
    "full_attention": create_causal_mask,
    "sliding_attention": create_sliding_window_causal_mask,
    "chunked_attention": create_chunked_causal_mask,
}


def layer_type(config: Any, index: int) -> str:
    """Kind of attention of decoder layer ``index``, as its mask function names it."""
    types = getattr(config, "layer_types", None)
    if types:
        return types[index]
    if getattr(config, "sliding_window", None) is not None:
        return "sliding_attention"
    return "chunked_attention" if getattr(config, "attention_chunk_size", None) is not None else "full_attention"


def columns_mask(layer: Any, past: Tensor | None, new: Tensor | None, width: int, like: Tensor) -> Tensor | None:
    """2-D mask in the logical columns of one cache layer for ``width`` new tokens; None when all is real.

    Static layers get their full length: causality hides slots not yet written, and no length is read from the device.
    """
    batch, device = like.shape[0], like.device
    if layer is None:
        return new
    mask: Tensor | None
    if layer.is_compileable and width == 1:
        if past is None:
            return None
        mask = F.pad(past, (0, layer.get_max_length() - past.shape[1]), value=True)
        return F.pad(mask, (dropped(layer), 0), value=False)
    mask = join_valid(past, stored(layer), new, width, batch, device)
    return mask if mask is None else F.pad(mask, (dropped(layer), 0), value=False)


def stored_valid(layer: Any, width: int) -> Tensor | None:
    """Validity of a layer's stored columns; for one-token steps of static layers without asking for its length."""
    if getattr(layer, "is_compileable", False) and width == 1:
        return getattr(layer, "valid", None)
    return past_valid(layer)


def layer_mask(config: Any, index: int, hidden: Tensor, layer: Any, past: Tensor | None, new: Tensor | None) -> Any:
    """Causal mask of one decoder layer for the tokens in ``hidden`` [B, K, D], in the format of the user's kernel."""
    mask = columns_mask(layer, past, new, hidden.shape[1], hidden)
    return MAKERS[layer_type(config, index)](
        config=config,
        inputs_embeds=hidden,
        attention_mask=mask,
        past_key_values=None if layer is None else Cache(layers=[layer]),
        position_ids=None,
    )


def gather_prepared(prepared: Any, packing: Packing, past: int) -> Any:
    """Gather finished 4-D masks (a tensor, or a dict by layer type) on both token dimensions."""
    if isinstance(prepared, dict):
        return {kind: gather_prepared(mask, packing, past) for kind, mask in prepared.items()}
    if not isinstance(prepared, Tensor) or prepared.ndim != 4:
        return prepared
    return packing.take_mask(prepared[..., : past + packing.length], past)


def padding_of(mask: Any, length: int, past: int) -> Tensor | None:
    """Which of the ``length`` new columns are real: bool [B, length] from a 2-D or a prepared mask, or None."""
    if isinstance(mask, dict):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if not isinstance(mask, Tensor):
        return None
    if mask.ndim == 2:
        return mask[:, -length:].bool()
    # a real token always sees itself: causal, windowed and blockwise masks alike
    seen = mask[:, 0, :, past : past + length].diagonal(dim1=-2, dim2=-1)
    return seen if seen.dtype == torch.bool else seen == 0


def is_prepared(mask: Any) -> bool:
    """True for masks that are finished: 4-D, or a dict by layer type."""
    return isinstance(mask, dict) or (isinstance(mask, Tensor) and mask.ndim == 4)
