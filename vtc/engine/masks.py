"""Attention masks for layers that hold other numbers of tokens than the rest.

Three forms of a mask arrive at a decoder. *Columns*: nothing or a 2-D mask, from which the decoder makes its own.
*Prepared*: finished masks that the base model has made, causal but for images that attend both ways; they are made anew
by transformers' own functions, with the opened pairs kept, so that sliding windows count the tokens that are there.
*Finished*: a mask the caller brought; nobody knows what it means, so it is gathered as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.layout import Packing
from .cache import dropped, join_valid, logical_columns, past_valid, stored
from .seams import BlockMask, Mask, OneMask, block_rows, gathered_block_mask, make_mask, max_length
from .types import CacheLayer, DecoderConfig

ROWS = 1 << 22  # entries of a block mask that are spelled out at a time


def layer_type(config: DecoderConfig, index: int) -> str:
    """Kind of attention of decoder layer ``index``, as its mask function names it."""
    types = getattr(config, "layer_types", None)
    if types:
        return types[index]
    if getattr(config, "sliding_window", None) is not None:
        return "sliding_attention"
    return "chunked_attention" if getattr(config, "attention_chunk_size", None) is not None else "full_attention"


def columns_mask(
    layer: CacheLayer | None, past: Tensor | None, new: Tensor | None, width: int, like: Tensor
) -> Tensor | None:
    """2-D mask in the logical columns of one cache layer for ``width`` new tokens; None when all is real.

    Static layers get their full length: causality hides slots not yet written, and no length is read from the device.
    """
    batch, device = like.shape[0], like.device
    if layer is None:
        return new
    mask: Tensor | None
    if _counts_on_device(layer, width):
        if past is None:
            return None
        mask = F.pad(past, (0, max_length(layer) - past.shape[1]), value=True)
        return F.pad(mask, (dropped(layer), 0), value=False)
    mask = join_valid(past, stored(layer), new, width, batch, device)
    return mask if mask is None else F.pad(mask, (dropped(layer), 0), value=False)


def stored_valid(layer: CacheLayer, width: int) -> Tensor | None:
    """Validity of a layer's stored columns; for one-token steps of static layers without asking for its length."""
    return getattr(layer, "valid", None) if _counts_on_device(layer, width) else past_valid(layer)


def _counts_on_device(layer: Any, width: int) -> bool:
    """True for one-token steps of static layers, whose length is a tensor; those with a window count in Python."""
    return getattr(layer, "is_compileable", False) and width == 1 and not getattr(layer, "is_sliding", False)


def past_seen(layer: CacheLayer, mask: Mask, width: int) -> Tensor | None:
    """Which stored columns of a layer ``width`` new tokens may see: what is real, and open in the caller's 2-D mask.

    The mask counts logically, so it is read at the logical columns of what is stored.
    """
    valid = stored_valid(layer, width)
    if not isinstance(mask, Tensor) or mask.ndim != 2:
        return valid
    if _counts_on_device(layer, width):
        # as far as the mask goes, blank slots included: how many are filled is known to the device alone
        held = min(max_length(layer), mask.shape[1] - dropped(layer))
    elif mask.shape[1] == stored(layer) + dropped(layer) + width:
        held = stored(layer)
    else:
        return valid
    columns = logical_columns(layer, mask.shape[0], mask.device, held)
    seen = mask.bool().gather(1, columns)
    return seen if valid is None else seen & F.pad(valid, (0, held - valid.shape[1]), value=True).to(seen.device)


def layer_mask(
    config: DecoderConfig,
    index: int,
    hidden: Tensor,
    layer: CacheLayer | None,
    past: Tensor | None,
    new: Tensor | None,
    blocks: Tensor | None = None,
    apart: Tensor | None = None,
) -> OneMask:
    """Causal mask of one decoder layer for the tokens in ``hidden`` [B, K, D], in the format of the user's kernel.

    ``blocks`` bool [B, K, K] opens further pairs of new columns (images that attend both ways). ``apart`` [B, K]
    numbers the samples of packed rows, which are closed to each other.
    """
    # padding is no sample of any, and flash attention looks at position ids only where there is no mask
    mask = None if apart is not None else columns_mask(layer, past, new, hidden.shape[1], hidden)
    # Overlays see absolute columns, as mask functions of transformers do: logical ones, which begin behind all that the
    # layer counts, stored or not. That a length may live on the device is why nothing here is an int.
    start = 0 if layer is None else layer.get_seq_length()
    more = None if blocks is None else _overlay(blocks, start)
    less = None if apart is None else _overlay(apart[:, :, None] == apart[:, None, :], start)
    return make_mask(layer_type(config, index), layer, more, less, config=config, embeds=hidden, mask=mask)


def _overlay(blocks: Tensor, start: int) -> Callable:
    width = blocks.shape[-1]

    def opened(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        place = key - start  # negative for what was cached before, beyond the width for blank slots of static caches
        return blocks[batch, query - start, place.clamp(0, width - 1)] & (place >= 0) & (place < width)

    return opened


def forward_blocks(prepared: Mask, past: int, length: int) -> Any:
    """Pairs of new columns that a prepared mask opens beyond causality: bool [B or 1, L, L], None when there are none.

    A dict by layer type gives a dict. What lies behind a query counts only where it may also be seen from there: it is
    the mirror of an opened pair, which a sliding window may have closed again.
    """
    if isinstance(prepared, dict):
        return {kind: forward_blocks(mask, past, length) for kind, mask in prepared.items()}
    seen = new_columns(prepared, past, length)
    if seen is None:
        return None
    # Causality is what every layer adds by itself; only what goes beyond it has to be carried along.
    ahead = seen.triu(1)
    return (ahead | ahead.transpose(1, 2) & seen) if bool(ahead.any()) else None


def new_columns(mask: Mask, past: int, length: int) -> Tensor | None:
    """Visible pairs among the new columns of a finished mask (first head): bool [B or 1, L, L]; None: not finished."""
    if isinstance(mask, BlockMask):
        rows = torch.arange(length, device=_device(mask)).expand(mask.shape[0], -1)
        step = max(1, ROWS // max(1, mask.shape[0] * (past + length)))
        return torch.cat([block_rows(mask, part, past + length)[:, 0, :, past:] for part in rows.split(step, 1)], 1)
    if not isinstance(mask, Tensor) or mask.ndim != 4:
        return None
    width = mask.shape[-1]
    start = past if past + length <= width else width - length  # windowed layers hold the last columns only
    return opened(mask[:, 0, :, start : start + length])


def seen_from(mask: Any, columns: Tensor, past: int, length: int) -> Tensor | None:
    """New columns that one of them in every row sees in a finished mask: bool [B, length]; None: not finished.

    ``columns`` [B]: which one.
    """
    if isinstance(mask, dict):
        mask = mask.get("full_attention", next(iter(mask.values()), None))
    if isinstance(mask, BlockMask):
        return block_rows(mask, columns[:, None], past + length)[:, 0, 0, past:]
    seen = new_columns(mask, past, length)
    if seen is None:
        return None
    return seen.expand(len(columns), -1, -1).gather(1, columns[:, None, None].expand(-1, 1, length))[:, 0]


def opened(mask: Tensor) -> Tensor:
    """Which pairs of a finished mask are open: bool masks say it, additive ones by a bias above minus infinity."""
    return mask.bool() if not mask.is_floating_point() else mask > torch.finfo(mask.dtype).min / 2


def _device(mask: BlockMask) -> torch.device:
    return mask.kv_num_blocks.device


def take_blocks(blocks: Tensor | None, packing: Packing | None, batch: int) -> Tensor | None:
    """Gather :func:`forward_blocks` on both token dimensions."""
    if blocks is None:
        return None
    blocks = blocks.expand(batch, -1, -1)
    return blocks if packing is None else packing.take_mask(blocks[:, None])[:, 0]


def padding_of(mask: Mask, length: int, past: int, kind: str = "full_attention") -> Tensor | None:
    """Which of the ``length`` new columns are real: bool [B, length] from a 2-D or a finished mask, or None.

    In a finished mask a column is real that another one sees, or that sees itself and another one: padding sees nothing
    or itself alone, or is not even seen by itself. Of masks by layer type the one of ``kind`` is read: ``past`` columns
    were cached in layers like it.
    """
    if isinstance(mask, dict):
        mask = mask.get(kind, next(iter(mask.values()), None))
    if isinstance(mask, Tensor) and mask.ndim == 2:
        return mask[:, -length:].bool()
    seen = new_columns(mask, past, length)
    if seen is None:
        return None
    # Models differ in what they let padding see: nothing, or itself so that no softmax is empty. Both are told from a
    # token by whether anybody else is involved.
    own = seen.diagonal(dim1=-2, dim2=-1)
    others = seen & ~torch.eye(length, dtype=torch.bool, device=seen.device)
    sees = others.any(2)
    if past and isinstance(mask, Tensor):
        sees = sees | opened(mask[:, 0, :, :past]).any(2)
    return others.any(1) | own & (sees if length > 1 else own)


def is_finished(mask: Mask) -> bool:
    """True for masks no decoder adds to: 4-D ones, and dicts of them by layer type."""
    return isinstance(mask, (dict, BlockMask)) or (isinstance(mask, Tensor) and mask.ndim == 4)


def gathered(mask: OneMask, packing: Packing | None, layer: CacheLayer | None, length: int) -> OneMask:
    """A finished mask of ``length`` new columns for one cache layer, gathered on queries and keys.

    Raises
    ------
    ValueError
        Its columns are not those of the cache and of the prompt.
    """
    if not isinstance(mask, (Tensor, BlockMask)):
        return mask
    like = mask if isinstance(mask, Tensor) else mask.kv_num_blocks
    batch = like.shape[0] if packing is None else packing.index.shape[0]
    queries, keys = _places(packing, layer, batch, length, like.device)
    most = int(keys.max()) + 1
    if mask.shape[-1] < most or mask.shape[-2] != length:
        raise ValueError(
            f"The attention mask {tuple(mask.shape)} does not fit {length} new tokens behind {most - length} cached "
            "ones, which count logically under vtc: pass [batch, 1 or heads, new, cached + new], or a 2-D mask."
        )
    if isinstance(mask, BlockMask):
        return gathered_block_mask(mask, queries, keys)
    return _gather(mask.expand(batch, -1, -1, -1), queries, keys)


def _places(
    packing: Packing | None, layer: CacheLayer | None, batch: int, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the given mask that each query and each key of a layer stand for; -1: padding or blank."""
    if packing is None:
        queries = torch.arange(length, device=device).expand(batch, -1)
    else:
        queries = packing.index.to(device)
        queries = queries if packing.valid is None else queries.masked_fill(~packing.valid.to(device), -1)
    if layer is None:
        return queries, queries
    start = stored(layer) + dropped(layer)
    past, valid = logical_columns(layer, batch, device), past_valid(layer)
    past = past if valid is None else past.masked_fill(~valid.to(device), -1)
    keys = torch.cat([past, torch.where(queries < 0, queries, queries + start)], 1)
    width = int(layer.get_mask_sizes(queries.shape[1])[0])
    keys = keys[:, -width:] if keys.shape[1] > width else F.pad(keys, (0, width - keys.shape[1]), value=-1)
    return queries, keys


def _gather(mask: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    heads = mask.shape[1]
    rows = queries.clamp_min(0)[:, None, :, None].expand(-1, heads, -1, mask.shape[3])
    picked = mask.gather(2, rows)
    columns = keys.clamp_min(0)[:, None, None, :].expand(-1, heads, queries.shape[1], -1)
    picked = picked.gather(3, columns)
    closed = (keys < 0)[:, None, None, :] | (queries < 0)[:, None, :, None]
    shut = torch.finfo(mask.dtype).min if mask.is_floating_point() else False
    return picked.masked_fill(closed, shut)
