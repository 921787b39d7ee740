"""The decoder's entrance: gather what it is given, and translate masks and positions for shrunken caches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from ..core.layout import Packing, Segment
from . import cache as kv
from .call import Call, current
from .masks import (
    columns_mask,
    forward_blocks,
    is_prepared,
    layer_mask,
    layer_type,
    padding_of,
    stored_valid,
    take_blocks,
)
from .seams import cache_of, put_cache

if TYPE_CHECKING:
    from .decoder import DecoderEngine


class Entrance:
    """Rewrites the keyword arguments of the decoder."""

    def __init__(self, engine: DecoderEngine) -> None:
        self.engine = engine

    @property
    def config(self) -> Any:
        """Config of the decoder."""
        return self.engine.decoder.config

    def note_past(self, call: Call, kwargs: dict[str, Any], batch: int, length: int) -> None:
        """Own the cache, read the padding, remember what lay in the cache."""
        mask, embeds = kwargs.get("attention_mask"), kwargs["inputs_embeds"]
        cache = cache_of(kwargs)
        if cache is None and self._wants_cache(kwargs):
            cache = DynamicCache(config=self.config)
            put_cache(self.engine.decoder, kwargs, cache)
        call.past = cache
        layer = first_layer(cache)
        held = 0 if layer is None else kv.stored(layer)
        real = padding_of(mask, length, held)
        call.real = torch.ones(batch, length, dtype=torch.bool, device=embeds.device) if real is None else real
        call.real = call.real.to(embeds.device).expand(batch, -1)
        call.cached = held
        self._note_valid(call, cache, mask)

    def _wants_cache(self, kwargs: dict[str, Any]) -> bool:
        wanted = kwargs.get("use_cache")
        wanted = getattr(self.config, "use_cache", True) if wanted is None else wanted
        return bool(wanted) and not (self.engine.decoder.training and _checkpoints(self.engine.decoder))

    def _note_valid(self, call: Call, cache: Any, mask: Any) -> None:
        for i, layer in enumerate(getattr(cache, "layers", ())):
            if not kv.is_token_layer(layer):
                continue
            held = kv.stored(layer)
            if held == 0:
                continue
            valid = kv.past_valid(layer)
            if valid is None and isinstance(mask, Tensor) and mask.ndim == 2 and not kv.dropped(layer):
                # an earlier turn without images: its padding is known from the user's mask alone
                seen = mask[:, :held].bool()
                valid = None if bool(seen.all()) else seen
            call.past_valid[i] = valid

    def pass_through(self, call: Call, kwargs: dict[str, Any]) -> None:
        """Nothing was dropped here: leave the arguments alone unless the cache is already shorter."""
        assert call.real is not None
        valid = None if bool(call.real.all()) else call.real
        call.segments = [Segment(0, None, valid, call.real.shape[1])]
        call.positions = self._positions(call, kwargs)
        self._note_blocks(call, kwargs)
        self._take_deepstack(call, kwargs)
        if kv.is_shrunk(call.past):
            self._continue_mask(kwargs, valid, call.real.shape[1])
            self._shift(kwargs, call.past)

    def shrink(self, call: Call, kwargs: dict[str, Any], keep: Tensor, renumber: bool) -> None:
        """Gather embeddings, positions, masks and rows added later (deepstack)."""
        assert call.real is not None
        packing = Packing.build(keep & call.real)
        call.segments = [Segment(0, packing, packing.valid, packing.width)]
        positions = call.positions = self._positions(call, kwargs)
        if renumber and positions.ndim == 2:
            gone = (~keep & call.real).long().cumsum(1)
            positions = positions - gone
            call.gone[0] = gone
        for name in ("inputs_embeds", *self.engine.adapter.per_token):
            if kwargs.get(name) is not None:
                kwargs[name] = packing.take(kwargs[name])
        self._put_positions(call, kwargs, packing, positions)
        self._put_mask(call, kwargs, packing)
        self._take_deepstack(call, kwargs)
        self._put_deepstack(kwargs, packing, keep)

    def _positions(self, call: Call, kwargs: dict[str, Any]) -> Tensor:
        """Position ids of all columns, ``[B, L]`` or ``[3, B, L]``, as the decoder would have used them."""
        assert call.real is not None
        given = kwargs.get("position_ids")
        batch, length = call.real.shape
        if given is None:
            layer = first_layer(call.past)
            start = 0 if layer is None else int(layer.get_seq_length())
            given = (torch.arange(length, device=call.real.device) + start)[None].expand(batch, -1)
            if self.engine.adapter.multimodal_rope:
                given = given[None].expand(3, -1, -1)
        elif given.ndim == 3 and given.shape[0] == 4:
            given = given[1:]  # row 0 only tells packed sequences apart, and gaps would fool it
        else:
            given = given.expand(*given.shape[:-2], batch, -1)
        before = shift_of(call.past)
        return given if before is None or given.ndim == 3 else given - before.to(given.device)[:, None]

    def _put_positions(self, call: Call, kwargs: dict[str, Any], packing: Packing, positions: Tensor) -> None:
        packed = packing.take(positions, dim=positions.ndim - 1)
        rotary = getattr(self.engine.decoder, "rotary_emb", None)
        if packed.ndim == 3 or not isinstance(rotary, nn.Module):
            kwargs["position_ids"] = packed
            return
        # mask code and flash attention read gaps as borders of packed sequences: show them contiguous ids, and hand the
        # true ones to the rotary embedding alone
        call.rotary_positions = packed
        kwargs["position_ids"] = packed[:, :1] + torch.arange(packing.width, device=packed.device)[None]

    def _put_mask(self, call: Call, kwargs: dict[str, Any], packing: Packing) -> None:
        layer = first_layer(call.past)
        if self._note_blocks(call, kwargs):
            given, like = kwargs["attention_mask"], kwargs["inputs_embeds"]
            kinds = self.kinds() if isinstance(given, dict) else {None: 0}
            masks = {kind: self._packed_mask(call, kind, i, packing, like) for kind, i in kinds.items()}
            kwargs["attention_mask"] = masks if isinstance(given, dict) else masks[None]
            return
        past = None if layer is None else call.past_valid.get(index_of(call.past, layer))
        mask = columns_mask(layer, past, packing.valid, packing.width, kwargs["inputs_embeds"])
        if mask is None and call.past is None:
            mask = torch.ones(packing.index.shape, dtype=torch.bool, device=packing.index.device)
        kwargs["attention_mask"] = mask

    def _packed_mask(self, call: Call, kind: str | None, index: int, packing: Packing, like: Tensor) -> Any:
        layer, past = layer_at(call.past, index), call.past_valid.get(index)
        blocks = take_blocks(call.blocks[kind] if kind else call.blocks, packing, like.shape[0])
        return layer_mask(self.config, index, like, layer, past, packing.valid, blocks)

    def _note_blocks(self, call: Call, kwargs: dict[str, Any]) -> bool:
        """Remember which pairs a finished mask opens beyond causality; False when the mask is not such a one."""
        given = kwargs.get("attention_mask")
        if not (self.engine.adapter.prepared_masks and is_prepared(given)):
            return False
        assert call.real is not None
        layer = first_layer(call.past)
        call.blocks = forward_blocks(given, 0 if layer is None else kv.stored(layer), call.real.shape[1])
        return True

    def kinds(self) -> dict[str, int]:
        """First layer of every type of attention."""
        return {layer_type(self.config, i): i for i in reversed(range(self.config.num_hidden_layers))}

    def _take_deepstack(self, call: Call, kwargs: dict[str, Any]) -> None:
        """Rows added after early layers: add them ourselves when tokens are dropped in between."""
        if self.engine.layer_hooks.takes_deepstack and kwargs.get("visual_pos_masks") is not None:
            call.deepstack = (kwargs.pop("visual_pos_masks"), kwargs.pop("deepstack_visual_embeds"))

    def remap_deepstack(self, call: Call, kwargs: dict[str, Any]) -> None:
        """Do to rows that are added after early layers what stages did to the features."""
        where = kwargs.get("visual_pos_masks")
        if where is None or not call.remaps:
            return
        place = (where.flatten().cumsum(0) - 1).view(where.shape)
        rows = [e.clone() for e in kwargs["deepstack_visual_embeds"]]
        for first, columns, kept, remap in call.remaps:
            for row in range(first, first + call.expand):
                old, new = place[row, columns], place[row, kept]
                for e in rows:
                    e[new.to(e.device)] = remap(e[old.to(e.device)]).to(e.dtype)
        kwargs["deepstack_visual_embeds"] = rows

    def _put_deepstack(self, kwargs: dict[str, Any], packing: Packing, keep: Tensor) -> None:
        where = kwargs.get("visual_pos_masks")
        if where is None:
            return
        kept = keep[where]
        kwargs["deepstack_visual_embeds"] = [e[kept.to(e.device)] for e in kwargs["deepstack_visual_embeds"]]
        packed = packing.take(where)
        kwargs["visual_pos_masks"] = packed if packing.valid is None else packed & packing.valid

    def continue_on(self, call: Call | None, args: tuple, kwargs: dict[str, Any]) -> None:
        """Decode steps and text turns on a shrunken cache."""
        x = kwargs.get("inputs_embeds")
        x = (kwargs["input_ids"] if kwargs.get("input_ids") is not None else args[0]) if x is None else x
        batch, length = x.shape[:2]
        cache = cache_of(kwargs)
        new = None
        if length > 1:  # a one-token step is real; asking the device would stop it
            new = padding_of(kwargs.get("attention_mask"), length, kv.stored(first_layer(cache)))
            new = None if new is None or bool(new.all()) else new.to(x.device)
        if call is not None:
            call.past = cache
            call.real = torch.ones(batch, length, dtype=torch.bool, device=x.device) if new is None else new
            call.segments = [Segment(0, None, new, length)]
            for i, layer in enumerate(cache.layers):
                if kv.is_token_layer(layer):
                    call.past_valid[i] = stored_valid(layer, length)
        self._continue_mask(kwargs, new, length)
        self._shift(kwargs, cache)

    def _continue_mask(self, kwargs: dict[str, Any], new: Tensor | None, width: int) -> None:
        cache = cache_of(kwargs)
        layer = first_layer(cache)
        given = kwargs.get("attention_mask")
        if not isinstance(layer, kv.Shrunk):
            return
        like = kwargs.get("inputs_embeds")
        if isinstance(given, dict) and like is not None:
            kwargs["attention_mask"] = {t: self._later_mask(cache, i, like, new) for t, i in self.kinds().items()}
            return
        like = like if like is not None else kwargs["input_ids"]
        kwargs["attention_mask"] = columns_mask(layer, stored_valid(layer, width), new, width, like)

    def _later_mask(self, cache: Any, index: int, like: Tensor, new: Tensor | None) -> Any:
        layer = layer_at(cache, index)
        past = None if layer is None else stored_valid(layer, like.shape[1])
        return layer_mask(self.config, index, like, layer, past, new)

    def _shift(self, kwargs: dict[str, Any], cache: Any) -> None:
        shift, given = shift_of(cache), kwargs.get("position_ids")
        if shift is None or (given is not None and given.ndim == 3):
            return
        if given is None:
            x = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]
            given = torch.arange(x.shape[1], device=x.device)[None] + first_layer(cache).get_seq_length()
        kwargs["position_ids"] = given - shift.to(given.device)[:, None]

    def rotary_pre(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Give the rotary embedding the true positions of the gathered columns."""
        if torch.compiler.is_compiling():
            return None
        call = current(self.engine.owner)
        if call is None or call.rotary_positions is None:
            return None
        if "position_ids" in kwargs:
            return args, {**kwargs, "position_ids": call.rotary_positions}
        return (args[0], call.rotary_positions, *args[2:]), kwargs


def first_layer(cache: Any) -> Any:
    """First layer of a cache that stores tokens, None without a cache."""
    return next((layer for layer in getattr(cache, "layers", ()) if kv.is_token_layer(layer)), None)


def layer_at(cache: Any, index: int) -> Any:
    """Cache layer of decoder layer ``index``; None where there is none (yet)."""
    layers = getattr(cache, "layers", ())
    return layers[index] if index < len(layers) else None


def index_of(cache: Any, layer: Any) -> int:
    """Position of a layer in its cache."""
    return next(i for i, other in enumerate(cache.layers) if other is layer)


def shift_of(cache: Any) -> Tensor | None:
    """What the first layer subtracts from logical positions."""
    return getattr(first_layer(cache), "shift", None)


def _checkpoints(decoder: nn.Module) -> bool:
    return bool(getattr(decoder, "gradient_checkpointing", False))
