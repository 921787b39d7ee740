"""Read and write caches whose layers may store fewer tokens than they have seen (:class:`Shrunk`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .cache_layer import Shrunk, shrunk_class
from .types import Cache, CacheLayer


def is_token_layer(layer: object) -> bool:
    """True for layers that store keys and values per token (not recurrent states, not placeholders)."""
    return hasattr(layer, "get_mask_sizes") and hasattr(layer, "get_seq_length")


def is_shrunk(cache: Cache | None) -> bool:
    """True when some layer of the cache counts logically."""
    return any(isinstance(layer, Shrunk) for layer in getattr(cache, "layers", ()))


def stored(layer: CacheLayer) -> int:
    """Tokens per row that ``layer`` holds."""
    return layer.stored() if isinstance(layer, Shrunk) else int(layer.get_seq_length())


def dropped(layer: CacheLayer | None) -> int:
    """Logical tokens ``layer`` has seen but not stored."""
    return getattr(layer, "dropped", 0)


def past_valid(layer: CacheLayer) -> Tensor | None:
    """Which stored columns are real: bool [B, P], None when all are."""
    valid = getattr(layer, "valid", None)
    if valid is None:
        return None
    held = stored(layer)
    return F.pad(valid, (0, held - valid.shape[1]), value=True) if held > valid.shape[1] else valid[:, :held]


def join_valid(
    past: Tensor | None, held: int, new: Tensor | None, width: int, batch: int, device: torch.device
) -> Tensor | None:
    """Validity of ``held`` stored and ``width`` new columns, None when everything is real."""
    if past is None and new is None:
        return None
    if past is None:
        past = torch.ones(batch, held, dtype=torch.bool, device=device)
    if new is None:
        new = torch.ones(batch, width, dtype=torch.bool, device=device)
    return torch.cat([past.to(device), new.to(device)], 1)


@dataclass
class Change:
    """What one forward did to a cache layer.

    ``gone`` logical tokens were not stored; ``valid`` covers all stored columns; ``columns`` are their logical columns;
    ``fixed`` of them lie before or at the last dropped token; ``mark`` tells forward and segment.
    """

    gone: int
    valid: Tensor | None
    columns: Tensor | None
    shift: Tensor | None
    fixed: int
    mark: tuple


def commit(cache: Cache, index: int, change: Change) -> None:
    """Tell layer ``index``, after its forward, for how many more logical tokens it stands than it stored."""
    layer = cache.layers[index]
    if not isinstance(layer, Shrunk):
        if change.gone == 0 and change.valid is None and change.shift is None:
            return
        # cache layers are ABCs with slots of their own: assigning __class__ fails, sharing the state does not
        twin: Any = object.__new__(shrunk_class(type(layer)))
        twin.__dict__.update(layer.__dict__)
        cache.layers[index] = layer = twin
    layer.dropped += change.gone
    layer.valid, layer.columns = change.valid, change.columns
    if change.shift is not None:
        layer.shift = change.shift
    if change.gone:
        layer.fixed = change.fixed
    layer.history = (*layer.history, change.mark)


def settle(cache: Cache) -> None:
    """Note on every layer whether transformers' own code can go on with this cache."""
    layers = [layer for layer in cache.layers if is_token_layer(layer)]
    # All layers short by the same number, nothing ragged, no position moved: then the offset that get_mask_sizes shows
    # is all that masks need, and a plain model may go on with this cache.
    uniform = len({dropped(layer) for layer in layers}) == 1
    for layer in layers:
        if isinstance(layer, Shrunk):
            layer.plain = uniform and layer.valid is None and layer.shift is None


def help_layers(cache: Cache | None, alike: CacheLayer | None, asked: object = None) -> None:
    """Mark the layers that lived through the same as ``alike`` as prepared for the forward that begins.

    The others are left the mask that the caller ``asked`` for.
    """
    history = getattr(alike, "history", ())
    for layer in getattr(cache, "layers", ()):
        if isinstance(layer, Shrunk):
            layer.helped, layer.asked = layer.history == history, asked


def withdraw(cache: Cache | None) -> None:
    """End of a forward, however it ended: nobody has prepared the next one."""
    for layer in getattr(cache, "layers", ()):
        if isinstance(layer, Shrunk):
            layer.helped, layer.asked = False, None


def logical_columns(layer: CacheLayer, batch: int, device: torch.device, held: int | None = None) -> Tensor:
    """Logical column of the first ``held`` stored columns of a layer (None: of all): LongTensor [B, held]."""
    held, known = stored(layer) if held is None else held, getattr(layer, "columns", None)
    later = torch.arange(held, device=device) + dropped(layer)
    if known is None:
        return later.expand(batch, -1)
    known = known.to(device)[:, :held]
    return torch.cat([known, later[known.shape[1] :].expand(batch, -1)], 1)


def first_layer(cache: Cache | None) -> Any:
    """First layer of a cache that stores tokens, None without a cache."""
    return next((layer for layer in getattr(cache, "layers", ()) if is_token_layer(layer)), None)


def layer_at(cache: Cache | None, index: int) -> Any:
    """Cache layer of decoder layer ``index``; None where there is none (yet)."""
    layers = getattr(cache, "layers", ())
    return layers[index] if index < len(layers) else None


def index_of(cache: Cache, layer: CacheLayer | None) -> int:
    """Position of a layer in its cache."""
    return next(i for i, other in enumerate(cache.layers) if other is layer)


def shift_of(cache: Cache | None) -> Tensor | None:
    """What the first layer subtracts from logical positions."""
    return getattr(first_layer(cache), "shift", None)


def extra_shift(cache: Cache | None, index: int) -> Tensor | None:
    """What the cache subtracts from positions in layer ``index`` beyond what it subtracts in the first: [B] or None."""
    layer, first = layer_at(cache, index), first_layer(cache)
    shift, before = getattr(layer, "shift", None), getattr(first, "shift", None)
    # Layers that have lived through the same are served together with the first one.
    if shift is None or layer.history == getattr(first, "history", ()):
        return None
    return shift if before is None else shift - before


_STORES = ("keys", "values", "_quantized_keys", "_quantized_values")


def kv_bytes(cache: Cache | None) -> list[int]:
    """Bytes held per layer, summed from the tensors themselves."""
    return [sum(_bytes(getattr(layer, name, None)) for name in _STORES) for layer in getattr(cache, "layers", ())]


def _bytes(held: object) -> int:
    if isinstance(held, (tuple, list)):
        return sum(map(_bytes, held))
    if isinstance(held, dict):
        return sum(map(_bytes, held.values()))
    if not isinstance(held, Tensor):
        return 0
    if hasattr(held, "__tensor_flatten__"):  # quantised tensors wrap plain ones
        return sum(_bytes(getattr(held, name)) for name in held.__tensor_flatten__()[0])
    return held.numel() * held.element_size()
