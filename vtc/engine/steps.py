"""Decode steps and text turns on a shrunken cache: masks and positions for what each layer holds.

Everything here may run inside of a compiled graph, where no forward is known; and nothing here reads a value from the
device for a step of one token, so that a step stays as asynchronous as it is unpatched.
"""

from __future__ import annotations

from torch import Tensor

from ..core.tokens import TokenLayout, full
from . import cache as kv
from .forward import Forward, Past
from .masks import columns_mask, gathered, is_finished, layer_mask, layer_type, padding_of, past_seen
from .rotary import kinds, rotate, shift_positions
from .seams import Arguments, Mask, OneMask
from .site import Site
from .types import Cache, CacheLayer, DecoderConfig


def continue_on(site: Site, forward: Forward | None, given: Arguments) -> None:
    """Rewrite the decoder's arguments of a step or a text turn."""
    rows = given["embeds"] if given["embeds"] is not None else given["ids"]
    batch, length = rows.shape[:2]
    cache = given["cache"]
    # The decoder makes one mask, from its first layer that stores tokens; whatever differs from that is served layer by
    # layer in `serve_step`.
    first = kv.first_layer(cache)
    new: Tensor | None = None
    finished = forward is not None and forward.finished
    # the caller's 2-D mask says more than what a base model has made of it
    asked = given["mask"] if forward is None or forward.prompt.mask is None else forward.prompt.mask
    if length > 1:  # a one-token step is real; asking the device would stop it
        # the caller's columns are logical; masks that transformers has made count what the cache holds
        kind = layer_type(site.decoder.config, kv.index_of(cache, first))
        new = padding_of(asked, length, kv.stored(first) + (kv.dropped(first) if finished else 0), kind)
        new = None if new is None or bool(new.all()) else new.to(rows.device)
    if forward is not None:
        _note(forward, cache, new, asked, full(batch, length, rows.device))
    given["mask"] = _mask(site.decoder.config, given["mask"], asked, cache, new, rows, finished)
    shift_positions(given, cache, rows)
    kv.help_layers(cache, first, asked)


def _note(forward: Forward, cache: Cache, new: Tensor | None, mask: Mask, every: Tensor) -> None:
    forward.past = Past(cache)
    for i, layer in enumerate(cache.layers if new is not None else ()):  # nothing is written down for a plain step
        if kv.is_token_layer(layer):
            forward.past.valid[i] = past_seen(layer, mask, every.shape[1])
    forward.layout = TokenLayout(every if new is None else new, every)
    forward.layout.whole(padded=new is not None)


def _mask(
    config: DecoderConfig, given: Mask, asked: Mask, cache: Cache, new: Tensor | None, rows: Tensor, finished: bool
) -> Mask:
    """Mask the decoder is handed: of its first layer, or of the first layer of every kind."""
    first, width = kv.first_layer(cache), rows.shape[1]
    if not isinstance(first, kv.Shrunk):
        return given
    if finished and is_finished(given) and not isinstance(given, dict):
        return gathered(given, None, first, width)
    if isinstance(given, dict) and rows.is_floating_point():
        first_of = {kind: (i, kv.layer_at(cache, i)) for kind, i in kinds(config).items()}
        seen = given if finished else asked
        return {kind: _step_mask(config, i, rows, x, new, seen, finished) for kind, (i, x) in first_of.items()}
    return columns_mask(first, past_seen(first, asked, width), new, width, rows)


def _step_mask(
    config: DecoderConfig,
    index: int,
    rows: Tensor,
    layer: CacheLayer | None,
    new: Tensor | None,
    given: Mask,
    finished: bool,
) -> OneMask:
    if finished and is_finished(given):
        mask = given.get(layer_type(config, index)) if isinstance(given, dict) else given
        return gathered(mask, None, layer, rows.shape[1])
    past = None if layer is None else past_seen(layer, given, rows.shape[1])
    return layer_mask(config, index, rows, layer, past, new)


def serve_step(site: Site, forward: Forward | None, index: int, given: Arguments) -> bool:
    """Give layer ``index`` the mask and rotary tables of what its cache layer holds; False when it needs none."""
    cache = given["cache"]
    layer = kv.layer_at(cache, index)
    if not isinstance(layer, kv.Shrunk):
        return False
    hidden, config = given.hidden, site.decoder.config
    # Positions of the step are those of the first layer. A layer behind a cut that renumbered is further back by what
    # was dropped for it alone.
    extra, positions = kv.extra_shift(cache, index), given["positions"]
    if extra is not None and positions is not None:
        moved = positions - extra.to(positions.device)[:, None]
        given["rotary"] = rotate(site.decoder, index, hidden, moved)
    # layers that have lived through the same share a mask: one per step for all of them
    key = ("step", layer.history, layer_type(config, index))
    memo = {} if forward is None else forward.notes.setdefault("steps", {})
    if key not in memo:
        new = None if forward is None or forward.layout is None else forward.layout.now.valid
        finished = forward is not None and forward.finished
        memo[key] = _step_mask(config, index, hidden, layer, new, layer.asked, finished)
    given["mask"] = memo[key]
    layer.helped = True
    return True
