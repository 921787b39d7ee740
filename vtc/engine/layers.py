"""Cuts between decoder layers: gather once before layer k, adapt what later layers are given."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.layout import Packing, Segment
from . import cache as kv
from .call import Call, current
from .entrance import shift_of
from .masks import layer_mask, layer_type, stored_valid, take_blocks
from .seams import cache_of
from .selecting import keep_mask, run_stage

if TYPE_CHECKING:
    from .decoder import DecoderEngine


class LayerHooks:
    """Pre-hooks on the layers from the first cut on."""

    def __init__(self, engine: DecoderEngine) -> None:
        self.engine = engine

    @property
    def takes_deepstack(self) -> bool:
        """True when tokens are dropped before the model has added the last rows to its early layers."""
        cuts = self.engine.cuts
        return bool(cuts) and min(cuts) < self.engine.adapter.deepstack(self.engine.model)

    def install(self) -> list[Any]:
        """Register the hooks and return their handles."""
        if not self.engine.cuts:
            return []
        layers = self.engine.adapter.layers(self.engine.model)
        start = 1 if self.takes_deepstack else min(self.engine.cuts)
        return [
            layer.register_forward_pre_hook(functools.partial(self._pre, i), with_kwargs=True)
            for i, layer in enumerate(layers)
            if i >= start
        ]

    def _pre(self, index: int, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not self.engine.enabled:
            return None
        call = current(self.engine.owner) if not torch.compiler.is_compiling() else None
        if call is not None and call.groups:
            return self._prefill(call, index, module, args, kwargs)
        return self._later(call, index, args, kwargs)

    def _prefill(self, call: Call, index: int, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        given = hidden = args[0] if args else kwargs["hidden_states"]
        if call.deepstack is not None and index <= len(call.deepstack[1]):
            hidden = self._add_rows(call, index - 1, hidden)
        if index in self.engine.cuts:
            call.clock.start("select")
            self.engine.taps.flush(call)
            if self.engine.taps.wants_ahead(index):
                ahead = self._side_inputs(call, index, hidden, kwargs)
                ahead = {name: value for name, value in ahead.items() if name != "hidden_states"}
                self.engine.taps.look_ahead(call, index, module, (hidden, *args[1:]), ahead)
            hidden = self._cut(call, index, hidden)
            call.clock.stop("select")
        if hidden is not given:
            args, kwargs = ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
        return args, self._side_inputs(call, index, hidden, kwargs)

    def _side_inputs(self, call: Call, index: int, hidden: Tensor, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Mask, positions and rotary tables of layer ``index`` for the columns that are left."""
        segment = call.segments[-1]
        if len(call.segments) == 1 and not kv.is_shrunk(call.past):
            return kwargs
        kwargs = dict(kwargs)
        self._rope(call, index, segment, kwargs, hidden)
        if len(call.segments) > 1:
            kwargs["position_ids"] = None
        kwargs["attention_mask"] = self._mask(call, index, segment, hidden)
        return kwargs

    def _add_rows(self, call: Call, level: int, hidden: Tensor) -> Tensor:
        """Add the rows the model would have added after layer ``level`` to the columns that are still there."""
        assert call.deepstack is not None and call.real is not None
        mask, rows = call.deepstack
        packing, mask = call.segments[-1].packing, mask.to(hidden.device)
        new = rows[level].to(hidden.device, hidden.dtype)
        if packing is not None:
            batch, length = call.real.shape
            new = new[keep_mask(call, batch, length, hidden.device)[mask]]
            mask = packing.take(mask) if packing.valid is None else packing.take(mask) & packing.valid
        hidden = hidden.clone()
        hidden[mask] = hidden[mask] + new
        return hidden

    def _cut(self, call: Call, index: int, hidden: Tensor) -> Tensor:
        segment = call.segments[-1]
        place = None if segment.packing is None else inverse(segment.packing)
        assert call.real is not None
        batch, length = call.real.shape
        before = keep_mask(call, batch, length, hidden.device)
        for stage in self.engine.cuts[index]:
            merged = run_stage(call, stage, index, hidden, place, self.engine.owner.row_state)
            hidden = hidden if merged is None else merged
        after = keep_mask(call, batch, length, hidden.device)
        if bool((after == before).all()):
            return hidden
        columns = after & call.real if segment.packing is None else segment.packing.take(after)
        if segment.valid is not None:
            columns = columns & segment.valid
        inner = Packing.build(columns)
        whole = inner if segment.packing is None else segment.packing.then(inner)
        call.segments.append(Segment(index, whole, inner.valid, inner.width))
        self._renumber(call, index, after)
        return inner.take(hidden)

    def _renumber(self, call: Call, index: int, after: Tensor) -> None:
        """Close the gaps of later layers' 1-D positions when every stage of this cut asks for it."""
        wanted = all(s.positions == "renumber" for s in self.engine.cuts[index])
        if wanted and not self.engine.adapter.multimodal_rope:
            call.gone[index] = (~after & call.real).long().cumsum(1)  # type: ignore[operator]

    def _rope(self, call: Call, index: int, segment: Segment, kwargs: dict[str, Any], hidden: Tensor) -> None:
        given = kwargs.get("position_embeddings")
        extra = extra_shift(call.past, index)
        if given is None or (len(call.segments) == 1 and extra is None):
            return
        own = 0 if extra is None else id(call.past.layers[index].shift)
        key = ("rope", segment.start, id(given[0]), own)
        if key not in call.masks:
            # `given` is held: ids are not reused
            call.masks[key] = (given, self._rotated(call, index, segment, given, hidden, extra))
        kwargs["position_embeddings"] = call.masks[key][1]

    def _rotated(
        self,
        call: Call,
        index: int,
        segment: Segment,
        given: tuple[Tensor, ...],
        hidden: Tensor,
        extra: Tensor | None,
    ) -> tuple[Tensor, ...]:
        packing, first = segment.packing, call.segments[0].packing
        starts = [s for s in call.gone if s <= segment.start]
        if extra is None and max(starts, default=0) == 0 and packing is not None:
            relative = packing if first is None else rebase(first, packing)
            return tuple(relative.take(x, dim=x.ndim - 2) for x in given)
        assert call.positions is not None
        positions = call.positions - call.gone[max(starts)] if starts else call.positions
        positions = positions if packing is None else packing.take(positions)
        if extra is not None:
            positions = positions - extra.to(positions.device)[:, None]
        return self._rotary(call, index, hidden, positions)

    def _rotary(self, call: Call, index: int, hidden: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        """Rotate by these positions, not by those the entrance has prepared."""
        entrance, call.rotary_positions = call.rotary_positions, None
        try:
            return rotate(self.engine.decoder, index, hidden, positions)
        finally:
            call.rotary_positions = entrance

    def _mask(self, call: Call, index: int, segment: Segment, hidden: Tensor) -> Any:
        config = self.engine.decoder.config
        layers = getattr(call.past, "layers", ())
        layer = layers[index] if index < len(layers) else None
        kind = layer_type(config, index)
        key = (segment.start, getattr(layer, "history", ()), kind)
        if key not in call.masks:
            table = call.blocks.get(kind) if isinstance(call.blocks, dict) else call.blocks
            blocks = take_blocks(table, segment.packing, hidden.shape[0])
            past = call.past_valid.get(index)
            mask = layer_mask(config, index, hidden, layer, past, segment.valid, blocks)
            call.masks[key] = mask
        return call.masks[key]

    def _later(self, call: Call | None, index: int, args: tuple, kwargs: dict[str, Any]) -> Any:
        cache = cache_of(kwargs)
        layers = getattr(cache, "layers", ())
        layer = layers[index] if index < len(layers) else None
        if not isinstance(layer, kv.Shrunk):
            return None
        hidden = args[0] if args else kwargs["hidden_states"]
        kwargs = dict(kwargs)
        self._shift(index, cache, hidden, kwargs)
        key = (layer.history, layer_type(self.engine.decoder.config, index))
        memo = call.masks if call is not None else {}
        if key not in memo:
            new = call.segments[0].valid if call is not None and call.segments else None
            past = stored_valid(layer, hidden.shape[1])
            memo[key] = layer_mask(self.engine.decoder.config, index, hidden, layer, past, new)
        kwargs["attention_mask"] = memo[key]
        return args, kwargs

    def _shift(self, index: int, cache: Any, hidden: Tensor, kwargs: dict[str, Any]) -> None:
        """Positions of this layer when a cut renumbered them: logical ones minus what the layer dropped."""
        extra, positions = extra_shift(cache, index), kwargs.get("position_ids")
        if extra is None or positions is None:
            return
        moved = positions - extra.to(positions.device)[:, None]
        kwargs["position_embeddings"] = rotate(self.engine.decoder, index, hidden, moved)


def rotate(decoder: Any, index: int, hidden: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
    """Cosines and sines for layer ``index``; some decoders have one rotary embedding per type of layer."""
    rotary = decoder.rotary_emb
    if "layer_type" in inspect.signature(rotary.forward).parameters:
        return rotary(hidden, positions, layer_type(decoder.config, index))
    return rotary(hidden, positions)


def extra_shift(cache: Any, index: int) -> Tensor | None:
    """What the cache subtracts from positions in layer ``index`` beyond what it subtracts in the first: [B] or None."""
    layers = getattr(cache, "layers", ())
    shift = getattr(layers[index], "shift", None) if index < len(layers) else None
    first = shift_of(cache)
    if shift is None or shift is first:
        return None
    return shift if first is None else shift - first


def inverse(packing: Packing) -> Tensor:
    """Physical column of every logical one: LongTensor [B, L], -1 where dropped."""
    batch = packing.index.shape[0]
    place = torch.full((batch, packing.length), -1, dtype=torch.long, device=packing.index.device)
    columns = torch.arange(packing.width, device=place.device).expand(batch, -1)
    # padding points at columns that were dropped, which nobody looks up
    return place.scatter(1, packing.index, columns)


def rebase(first: Packing, whole: Packing) -> Packing:
    """Express ``whole`` (a gather of logical columns) as a gather of the columns of ``first``."""
    place = inverse(first).clamp_min(0)
    return Packing(place.gather(1, whole.index), whole.valid, first.width)
