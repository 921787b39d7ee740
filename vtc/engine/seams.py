"""The names that transformers gives to arguments, functions and interfaces: no other file of the engine spells them.

Names are read from the signatures of the very modules that are hooked, since they change between minor versions: 5.24
renamed the argument ``past_key_values`` of decoders, layers, attention modules and mask functions to ``cache``. What is
looked for before a model is hooked stands in :mod:`vtc.engine.checks`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import Cache
from transformers.masking_utils import (
    create_bidirectional_mask,
    create_causal_mask,
    create_chunked_causal_mask,
    create_sliding_window_causal_mask,
    find_packed_sequence_indices,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .types import CacheLayer, Called

OneMask: TypeAlias = Tensor | BlockMask | None
"""Nothing, columns [B, L], or a finished mask."""
Mask: TypeAlias = OneMask | dict[str, OneMask]
"""A finished mask may differ by type of layer."""

NAMES: dict[str, tuple[str, ...]] = {
    "ids": ("input_ids",),
    "embeds": ("inputs_embeds",),
    "mask": ("attention_mask",),
    "positions": ("position_ids",),
    "cache": ("cache", "past_key_values"),
    "use_cache": ("use_cache",),
    "rotary": ("position_embeddings",),
    "logits": ("logits_to_keep",),
    "labels": ("labels",),
    "encoded": ("mm_encoder_outputs",),
    "added_columns": ("visual_pos_masks",),
    "added_rows": ("deepstack_visual_embeds",),
    "per_layer": ("per_layer_inputs",),
    "bounds": ("cu_seqlens",),
    "longest": ("max_seqlen",),
    "flash_bounds": ("cu_seq_lens_q",),
    "scaling": ("scaling",),
    "is_causal": ("is_causal",),
    "window": ("sliding_window",),
    "softcap": ("softcap",),
}
"""What an argument means to the engine, and the names transformers has had for it, newest first."""

MAKERS: dict[str, Callable] = {
    "full_attention": create_causal_mask,
    "sliding_attention": create_sliding_window_causal_mask,
    "chunked_attention": create_chunked_causal_mask,
}
"""Mask function of every kind of attention."""

FEATURES = "pooler_output"
"""Where feature methods leave the rows that go into the prompt."""

PIXELS = "pixel_values"
"""How the names of arguments that hold pictures begin."""

_SIGNATURES: dict[Any, tuple[str, ...]] = {}  # a dict, not functools.cache, of which compiled decode steps would warn


def parameters(function: Callable) -> tuple[str, ...]:
    """Names of a function's parameters, without ``self`` and without ``*args`` and ``**kwargs``."""
    key = getattr(function, "__func__", function)
    key = getattr(key, "_torchdynamo_orig_callable", key)
    if key not in _SIGNATURES:
        every = inspect.signature(key).parameters.values()
        named = [p.name for p in every if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        _SIGNATURES[key] = tuple(named[1:] if named[:1] == ["self"] else named)
    return _SIGNATURES[key]


def name_of(meaning: str, function: Callable) -> str | None:
    """Name by which ``function`` takes an argument, None when by none that is known."""
    taken = parameters(function)
    return next((name for name in NAMES[meaning] if name in taken), None)


def find(meaning: str, kwargs: Mapping[str, Any]) -> Any:
    """Value of an argument among keyword arguments, None when it is not there."""
    return next((kwargs[name] for name in NAMES[meaning] if kwargs.get(name) is not None), None)


def cache_of(kwargs: Mapping[str, Any]) -> Any:
    """Cache among the arguments, or in the output, of a module; None without one."""
    return find("cache", kwargs)


def renamed(forward: Callable, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments with the name of the cache that ``forward`` takes.

    transformers still knows the old one, but would warn, and blame the caller of its function, which is vtc.
    """
    taken = name_of("cache", forward)
    if taken is None or taken in kwargs:
        return kwargs
    return {taken if name in NAMES["cache"] else name: value for name, value in kwargs.items()}


class Arguments:
    """One call of a module, read and written by meaning; positional arguments get their names first.

    The first argument of a layer stays positional: gradient checkpointing only sees those.
    """

    def __init__(self, module: nn.Module, args: tuple, kwargs: Mapping[str, Any]) -> None:
        self.taken = parameters(type(module).forward)
        self.positional = bool(args)
        self.rest = args[len(self.taken) :]
        self.kwargs = {**dict(zip(self.taken, args, strict=False)), **kwargs}

    def __getitem__(self, meaning: str) -> Any:
        return find(meaning, self.kwargs)

    def __setitem__(self, meaning: str, value: object) -> None:
        known = NAMES[meaning]
        given = next((name for name in known if name in self.kwargs), None)
        taken = next((name for name in known if name in self.taken), None)
        self.kwargs.pop(given or "", None)
        self.kwargs[taken or given or known[0]] = value

    def takes(self, meaning: str) -> bool:
        """True when the argument was given, even as None."""
        return any(name in self.kwargs for name in NAMES[meaning])

    def pop(self, meaning: str) -> Any:
        """Take an argument away."""
        value = self[meaning]
        for name in NAMES[meaning]:
            self.kwargs.pop(name, None)
        return value

    @property
    def hidden(self) -> Tensor:
        """First argument: the rows that enter a layer or a block."""
        return self.rest[0] if not self.taken else self.kwargs[self.taken[0]]

    @hidden.setter
    def hidden(self, value: Tensor) -> None:
        if not self.taken:
            self.rest = (value, *self.rest[1:])
        else:
            self.kwargs[self.taken[0]] = value

    def call(self) -> Called:
        """Arguments as a module is called with them."""
        if not self.taken or not self.positional:
            return self.rest, self.kwargs
        kwargs = dict(self.kwargs)
        return (kwargs.pop(self.taken[0]), *self.rest), kwargs


def max_length(layer: CacheLayer) -> int:
    """Slots of a static cache layer; the method that tells them has had two names."""
    read = getattr(layer, "get_max_length", None) or getattr(layer, "get_max_cache_shape")  # noqa: B009 - of old layers
    return int(read())


def make_mask(
    kind: str, layer: CacheLayer | None, opened: Callable | None, closed: Callable | None, **given: object
) -> OneMask:
    """Mask of one kind of attention for the tokens in front of one cache layer, by transformers' own function.

    ``opened`` and ``closed`` tell which pairs are open whatever the rest says, and which only may be.
    """
    maker = MAKERS[kind]
    name = name_of("cache", maker) or NAMES["cache"][0]
    cache = None if layer is None else Cache(layers=[cast(Any, layer)])
    named = {NAMES[k][0] if k in NAMES else k: v for k, v in given.items()}
    return maker(**{name: cache}, **named, or_mask_function=opened, and_mask_function=closed)


def tower_mask(config: object, hidden: Tensor, valid: Tensor) -> OneMask:
    """Mask of a vision block whose padding is ``valid`` [B, K]."""
    return create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=valid)


def gathered_block_mask(mask: BlockMask, queries: Tensor, keys: Tensor) -> BlockMask:
    """Block mask of flex attention for gathered tokens.

    Parameters
    ----------
    queries, keys : LongTensor [B, Q], [B, K]
        Index of each in the given mask; -1 sees nothing and is not seen.
    """
    seen = mask.mask_mod

    def picked(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        row, column = queries[b, q], keys[b, k]
        return seen(b, h, row.clamp_min(0), column.clamp_min(0)) & (row >= 0) & (column >= 0)

    sizes = queries.shape[0], None, queries.shape[1], keys.shape[1]
    return create_block_mask(picked, *sizes, device=queries.device, _compile=False)


def block_rows(mask: BlockMask, rows: Tensor, keys: int) -> Tensor:
    """Rows [B, R] of a block mask against its first ``keys`` columns: bool [B, 1, R, keys]."""
    b = torch.arange(rows.shape[0], device=rows.device)[:, None, None]
    zero = torch.zeros((), dtype=torch.long, device=rows.device)
    seen = mask.mask_mod(b, zero, rows[:, :, None], torch.arange(keys, device=rows.device)[None, None])
    return seen.expand(rows.shape[0], rows.shape[1], keys)[:, None]


def packed_samples(positions: Tensor) -> Tensor | None:
    """Ordinal of the sample each column belongs to [B, L], where position ids that start again tell; else None."""
    return find_packed_sequence_indices(positions)


@torch.compiler.disable
def eagerly(function: Callable, *args: Any, **kwargs: Any) -> Any:
    """Run ``function`` outside of any graph that is being compiled: the graph breaks here."""
    return function(*args, **kwargs)


def kernels() -> MutableMapping[str, Callable]:
    """Table of attention kernels by name."""
    return ALL_ATTENTION_FUNCTIONS
