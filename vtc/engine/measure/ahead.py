"""Queries and keys of a decoder layer before it runs: enter it, measure at its attention kernel, leave."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import cache as kv
from ..forward import Forward
from ..seams import Arguments
from ..types import Cache
from .tap import MeasuredAhead, collecting


class Untouched:
    """Reads like the cache behind it, and hands out what an update would return without storing anything."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Keys and values so far with the new ones behind them."""
        layers = self._cache.layers
        layer: Any = layers[layer_idx] if layer_idx < len(layers) else None
        held = 0 if layer is None else kv.stored(layer)
        if held == 0:
            return keys, values
        if hasattr(layer, "_dequantize"):
            raise ValueError(
                "This method reads the attention of a layer before it runs, which a quantised cache with an earlier "
                "turn in it does not allow. Start from an empty cache, or use a plain one or 'fastv'."
            )
        old_keys, old_values = layer.keys[:, :, :held].to(keys), layer.values[:, :, :held].to(values)
        return torch.cat([old_keys, keys], 2), torch.cat([old_values, values], 2)


def measure_ahead(layer: nn.Module, given: Arguments, context: Forward) -> dict[Any, list[Tensor]]:
    """Measure the tapped attention of ``layer`` on its inputs; its own norms, projections and rotary code run.

    The kernel, the output projection and the feed-forward part do not, and the cache stays as it is.

    Raises
    ------
    ValueError
        The layer never called an attention kernel.
    """
    if given["cache"] is not None:
        given["cache"] = Untouched(given["cache"])
    args, kwargs = given.call()
    # the tap ends the layer by an exception once it has queries and keys; the cache it sees stores nothing
    with collecting(context) as collector, torch.no_grad():
        collector.ahead = True
        try:
            layer.forward(*args, **kwargs)  # not __call__: hooks, ours among them, are for the real run
        except MeasuredAhead:
            return collector.values
    raise ValueError(
        f"{type(layer).__name__} ran without a call to an attention function of transformers: its attention cannot be "
        "read. Use a method that reads an earlier layer ('fastv') or none."
    )
