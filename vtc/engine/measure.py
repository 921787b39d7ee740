"""Measurements inside the decoder: attention rows of one layer, brought to logical columns."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.stage import Need
from ..core.stats import AttentionCall, mean_rows, received, relevance
from .ahead import measure_ahead
from .attention_tap import AttentionTap, Collector, start_collecting, stop_collecting
from .cache import stored
from .call import Call
from .layers import inverse
from .transition import watch

if TYPE_CHECKING:
    from .decoder import DecoderEngine


class DecoderTaps:
    """Taps on the attention modules whose rows some stage needs; they collect during prefill only."""

    def __init__(self, engine: DecoderEngine, needs: list[Need]) -> None:
        self.engine = engine
        self.inputs = [n for n in dict.fromkeys(needs) if n.stat == "hidden_in" and n.layer == 0]
        self.needs = [n for n in dict.fromkeys(needs) if n not in self.inputs]
        self.taps: list[AttentionTap] = []
        self.handles: list[Any] = []

    def install(self) -> None:
        """Tap every layer that is needed."""
        layers = self.engine.adapter.layers(self.engine.model)
        for index in dict.fromkeys(n.layer for n in self.needs):
            mine = [n for n in self.needs if n.layer == index]
            watched = [n for n in mine if n.stat == "transition"]
            if watched:
                self.handles += watch(layers[index], index, watched)
            measures = {n: functools.partial(_measure, n) for n in mine if n not in watched}
            ahead = {n: measures.pop(n) for n in mine if n.stat == "next_rows"}
            if measures or ahead:
                self._tap(layers[index], index, measures, ahead)

    def _tap(self, layer: nn.Module, index: int, measures: dict[Need, Any], ahead: dict[Need, Any]) -> None:
        module = self.engine.adapter.attention(layer)
        if module is None:
            raise ValueError(f"Decoder layer {index} has no attention module to read from.")
        for need in (*measures, *ahead):
            if need.stat not in DECODER_MEASURES:
                known = sorted(MEASURED)
                raise ValueError(f"The decoder can measure {known}, not {need.stat!r}.")
        self.taps.append(AttentionTap(module, measures, ahead))

    def remove(self) -> None:
        """Take the taps off."""
        while self.taps:
            self.taps.pop().remove()
        while self.handles:
            self.handles.pop().remove()

    def start(self, call: Call, embeds: Tensor) -> None:
        """Begin to collect for a prefill with images; ``embeds`` [B, L, D] are its rows before any was dropped."""
        call.stats |= dict.fromkeys(self.inputs, embeds.detach())
        if self.needs and call.groups:
            call.collector, call.collect_token = start_collecting(call)

    def stop(self, call: Call) -> None:
        """End collecting; harmless when it never began."""
        if call.collect_token is not None:
            stop_collecting(call.collect_token)
            call.collect_token = None

    def flush(self, call: Call) -> None:
        """Move what was measured since the last cut to ``call.stats``, in logical columns."""
        if call.collector is None:
            return
        found = {need: values for need, values in call.collector.values.items() if need.stat != "actions"}
        for need, values in found.items():
            del call.collector.values[need]
            stat = torch.stack(values).sum(0) if need.stat == "transition" else values[-1]
            self._store(call, need, stat, self._end(call, need, stat.shape[-1]))

    def wants_ahead(self, index: int) -> bool:
        """True when a stage before layer ``index`` reads that layer's own attention."""
        return any(n.stat == "next_rows" and n.layer == index for n in self.needs)

    def look_ahead(self, call: Call, index: int, layer: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Measure layer ``index`` on the rows and side inputs it would get without the cut."""
        for need, values in measure_ahead(layer, args, kwargs, call).items():
            self._store(call, need, values[-1], values[-1].shape[-1])

    @staticmethod
    def _store(call: Call, need: Need, stat: Tensor, end: int) -> None:
        if need.stat != "masses":  # the one statistic that is not per token
            segment = call.segments[-1]
            stat = stat[..., end - segment.width : end]
            if segment.packing is not None:
                stat = stat.gather(-1, inverse(segment.packing).clamp_min(0).to(stat.device))
        call.stats[need] = stat

    @staticmethod
    def _end(call: Call, need: Need, keys: int) -> int:
        """Key column behind this forward's last one: static caches have blank slots after it."""
        layers = getattr(call.past, "layers", ())
        layer = layers[need.layer] if need.layer < len(layers) else None
        return min(keys, stored(layer)) if getattr(layer, "is_compileable", False) else keys


def query_columns(call: Call, option: Any) -> tuple[Tensor, Tensor]:
    """Physical columns [B, R] of the query rows and which of them count [B, R].

    ``"last"``: the last prompt token (before draft tokens of assisted decoding and action placeholders). ``"text"``: all
    tokens after the last visual one, up to the same; ``"inner"``: these but for the first and the last. ``"all"``: all
    tokens up to the same.
    """
    assert call.real is not None
    segment = call.segments[-1]
    real = call.real
    place, last = _places(call)
    if option == "last":
        columns, counts = last[:, None], torch.ones_like(last[:, None], dtype=torch.bool)
    else:
        chosen = real & (place <= last[:, None])
        if option != "all":
            visual = torch.stack(list(call.placeholders.values())).any(0).to(real.device)
            after = torch.where(visual, place, -1).amax(1, keepdim=True)
            inner = int(option == "inner")
            chosen = chosen & (place > after + inner) & (place <= last[:, None] - inner)
        width = max(1, int(chosen.sum(1).max()))
        columns = torch.argsort(chosen.to(torch.int8), dim=1, stable=True)[:, -width:]
        counts = chosen.gather(1, columns)
    if segment.packing is not None:
        columns = inverse(segment.packing).to(columns.device).gather(1, columns).clamp_min(0)
    return columns, counts


def _places(call: Call) -> tuple[Tensor, Tensor]:
    """Logical column numbers [B, L] and the last prompt column of each row [B]."""
    assert call.real is not None
    place = torch.arange(call.real.shape[1], device=call.real.device).expand_as(call.real)
    behind = call.engine.adapter.action_length or call.logits_to_keep - 1
    return place, torch.where(call.real, place, -1).amax(1) - behind


def kinds(call: Call, system: int | None) -> tuple[Tensor, Tensor]:
    """Physical columns that are text and those that are visual: bool [B, K] each; system prompt and padding neither.

    ``system`` is the number of leading real tokens that make the system prompt; None: all before the first image. The
    token right before an image, ``<|vision_start|>`` and the like, is no text.
    """
    assert call.real is not None
    real, segment = call.real, call.segments[-1]
    place, last = _places(call)
    visual = torch.stack(list(call.placeholders.values())).any(0).to(real.device) & real
    head = visual.cumsum(1) == 0 if system is None else real.cumsum(1) <= system
    opening = torch.nn.functional.pad(visual[:, 1:], (0, 1))
    text = real & ~visual & ~head & ~opening & (place <= last[:, None])
    if segment.packing is None:
        return text, visual
    valid = torch.ones_like(segment.packing.index, dtype=torch.bool) if segment.valid is None else segment.valid
    return segment.packing.take(text) & valid, segment.packing.take(visual) & valid


def _masses(attention: AttentionCall, need: Need, collector: Collector) -> Tensor:
    call = collector.context
    text, visual = kinds(call, need.option)  # type: ignore[arg-type]
    device = attention.q.device
    end = DecoderTaps._end(call, need, attention.k.shape[2])
    return relevance(attention, text.to(device), visual.to(device), end - text.shape[1])


def _query_rows(attention: AttentionCall, need: Need, collector: Collector) -> Tensor:
    columns, counts = query_columns(collector.context, need.option or "last")
    return mean_rows(attention, columns.to(attention.q.device), counts.to(attention.q.device))


def _received(attention: AttentionCall, need: Need, collector: Collector) -> Tensor:
    return received(attention)


def _actions(attention: AttentionCall, need: Need, collector: Collector) -> Tensor:
    call = collector.context
    actions = call.engine.actions
    if collector.only:
        return actions.step_share(attention, need.layer, call)
    return actions.prompt_share(attention, need.layer, call, DecoderTaps._end(call, need, attention.k.shape[2]))


DECODER_MEASURES = {
    "query_rows": _query_rows,
    "next_rows": _query_rows,
    "received": _received,
    "masses": _masses,
    "actions": _actions,
}
MEASURED = {*DECODER_MEASURES, "transition", "hidden_in"}
"""All a decoder stage may need: transitions come from hooks on modules, the rest from attention taps."""


def _measure(need: Need, attention: AttentionCall, collector: Collector) -> Tensor:
    return DECODER_MEASURES[need.stat](attention, need, collector)
