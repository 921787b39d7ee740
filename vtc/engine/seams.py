"""The names that transformers gives to arguments, functions and interfaces: no other file of the engine spells them.

Names are read from the signatures of the very modules that are hooked, since they change between minor versions: 5.24
renamed the argument ``past_key_values`` of decoders, layers, attention modules and mask functions to ``cache``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from transformers.masking_utils import (
    create_causal_mask,
    create_chunked_causal_mask,
    create_sliding_window_causal_mask,
)

CACHE = ("cache", "past_key_values")
"""What a module may call its cache, newest first."""

MAKERS: dict[str, Callable] = {
    "full_attention": create_causal_mask,
    "sliding_attention": create_sliding_window_causal_mask,
    "chunked_attention": create_chunked_causal_mask,
}
"""Mask function of every kind of attention."""


_KNOWN: dict[Callable, tuple[str, ...]] = {}  # a dict, not functools.cache, which compiled decode steps would warn of


def _parameters(function: Callable) -> tuple[str, ...]:
    if function not in _KNOWN:
        _KNOWN[function] = tuple(inspect.signature(function).parameters)
    return _KNOWN[function]


def cache_name(function: Callable) -> str:
    """Name by which ``function`` takes its cache.

    Raises
    ------
    ImportError
        By none of the known names.
    """
    names = _parameters(function)
    found = next((name for name in CACHE if name in names), None)
    if found is None:
        raise ImportError(f"{getattr(function, '__qualname__', function)} takes no cache by any of the names {CACHE}.")
    return found


def cache_of(kwargs: Mapping[str, Any]) -> Any:
    """Cache among the arguments of a module, None without one."""
    return next((kwargs[name] for name in CACHE if kwargs.get(name) is not None), None)


def put_cache(module: nn.Module, kwargs: dict[str, Any], cache: Any) -> None:
    """Hand ``cache`` to a module by the name it uses."""
    given = next((name for name in CACHE if kwargs.get(name) is not None), None)
    kwargs[given or cache_name(type(module).forward)] = cache


def make_mask(kind: str, cache: Any, **arguments: Any) -> Any:
    """Mask of one kind of attention, by transformers' own function."""
    maker = MAKERS[kind]
    return maker(**{cache_name(maker): cache}, **arguments)
