"""Attention masks for layers that hold other numbers of tokens than the rest, built by transformers' own functions."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache

from ..core.layout import Packing
from .cache import dropped, join_valid, past_valid, stored
from .seams import make_mask


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


def layer_mask(
    config: Any,
    index: int,
    hidden: Tensor,
    layer: Any,
    past: Tensor | None,
    new: Tensor | None,
    blocks: Tensor | None = None,
) -> Any:
    """Causal mask of one decoder layer for the tokens in ``hidden`` [B, K, D], in the format of the user's kernel.

    ``blocks`` bool [B, K, K] opens further pairs of new columns (images that attend both ways).
    """
    mask = columns_mask(layer, past, new, hidden.shape[1], hidden)
    start = 0 if layer is None else layer.get_seq_length()
    return make_mask(
        layer_type(config, index),
        None if layer is None else Cache(layers=[layer]),
        config=config,
        inputs_embeds=hidden,
        attention_mask=mask,
        position_ids=None,
        or_mask_function=None if blocks is None else _overlay(blocks, start),
    )


def _overlay(blocks: Tensor, start: Any) -> Any:
    width = blocks.shape[-1]

    def opened(batch: Any, head: Any, query: Any, key: Any) -> Any:
        place = key - start  # negative for what was cached before, beyond the width for blank slots of static caches
        return blocks[batch, query - start, place.clamp(0, width - 1)] & (place >= 0) & (place < width)

    return opened


def forward_blocks(prepared: Any, past: int, length: int) -> Any:
    """Pairs of new columns that a finished mask opens beyond causality: bool [B or 1, L, L], None when there are none.

    A dict by layer type gives a dict. What lies behind a query counts only where it may also be seen from there: it is
    the mirror of an opened pair, which a sliding window may have closed again.
    """
    if isinstance(prepared, dict):
        return {kind: forward_blocks(mask, past, length) for kind, mask in prepared.items()}
    if not isinstance(prepared, Tensor) or prepared.ndim != 4:
        return None
    seen = new_columns(prepared, past, length)
    ahead = seen.triu(1)
    return (ahead | ahead.transpose(1, 2) & seen) if bool(ahead.any()) else None


def new_columns(mask: Tensor, past: int, length: int) -> Tensor:
    """Visible pairs among the new columns of a 4-D mask (first head): bool [B or 1, L, L]."""
    width = mask.shape[-1]
    start = past if past + length <= width else width - length  # windowed layers hold the last columns only
    seen = mask[:, 0, :, start : start + length]
    return seen if seen.dtype == torch.bool else seen == 0


def take_blocks(blocks: Tensor | None, packing: Packing | None, batch: int) -> Tensor | None:
    """Gather :func:`forward_blocks` on both token dimensions."""
    if blocks is None:
        return None
    blocks = blocks.expand(batch, -1, -1)
    return blocks if packing is None else packing.take_mask(blocks[:, None])[:, 0]


def padding_of(mask: Any, length: int, past: int) -> Tensor | None:
    """Which of the ``length`` new columns are real: bool [B, length] from a 2-D or a prepared mask, or None."""
    if isinstance(mask, dict):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if not isinstance(mask, Tensor):
        return None
    if mask.ndim == 2:
        return mask[:, -length:].bool()
    # a real token always sees itself: causal, windowed and blockwise masks alike
    return new_columns(mask, past, length).diagonal(dim1=-2, dim2=-1)


def is_prepared(mask: Any) -> bool:
    """True for masks that are finished: 4-D, or a dict by layer type."""
    return isinstance(mask, dict) or (isinstance(mask, Tensor) and mask.ndim == 4)
