"""Measurements inside the decoder: attention rows of one layer, brought to logical columns."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..core.stage import Need
from ..core.stats import AttentionCall, attention_rows, received
from .attention_tap import AttentionTap, Collector, start_collecting, stop_collecting
from .cache import stored
from .call import Call
from .layers import inverse

if TYPE_CHECKING:
    from .decoder import DecoderEngine


class DecoderTaps:
    """Taps on the attention modules whose rows some stage needs; they collect during prefill only."""

    def __init__(self, engine: DecoderEngine, needs: list[Need]) -> None:
        self.engine, self.needs = engine, list(dict.fromkeys(needs))
        self.taps: list[AttentionTap] = []

    def install(self) -> None:
        """Tap every layer that is needed."""
        layers = self.engine.adapter.layers(self.engine.model)
        wanted: dict[int, dict[Need, Any]] = {}
        for need in self.needs:
            if need.stat not in DECODER_MEASURES:
                raise ValueError(f"The decoder can measure {sorted(DECODER_MEASURES)}, not {need.stat!r}.")
            wanted.setdefault(need.layer, {})[need] = functools.partial(_measure, need)
        for index, measures in wanted.items():
            module = self.engine.adapter.attention(layers[index])
            if module is None:
                raise ValueError(f"Decoder layer {index} has no attention module to read from.")
            self.taps.append(AttentionTap(module, measures))

    def remove(self) -> None:
        """Take the taps off."""
        while self.taps:
            self.taps.pop().remove()

    def start(self, call: Call) -> None:
        """Begin to collect for a prefill with images."""
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
        segment = call.segments[-1]
        for need, values in call.collector.values.items():
            end = self._end(call, need, values[-1].shape[-1])
            stat = values[-1][..., end - segment.width : end]
            if segment.packing is not None:
                stat = stat.gather(-1, inverse(segment.packing).clamp_min(0).to(stat.device))
            call.stats[need] = stat
        call.collector.values.clear()

    @staticmethod
    def _end(call: Call, need: Need, keys: int) -> int:
        """Key column behind this forward's last one: static caches have blank slots after it."""
        layers = getattr(call.past, "layers", ())
        layer = layers[need.layer] if need.layer < len(layers) else None
        return min(keys, stored(layer)) if getattr(layer, "is_compileable", False) else keys


def query_columns(call: Call, option: Any) -> tuple[Tensor, Tensor]:
    """Physical columns [B, R] of the query rows and which of them count [B, R].

    ``"last"``: the last prompt token (before draft tokens of assisted decoding). ``"text"``: all tokens after the last
    visual one, up to the same.
    """
    assert call.real is not None
    segment = call.segments[-1]
    real = call.real
    place = torch.arange(real.shape[1], device=real.device).expand_as(real)
    last = torch.where(real, place, -1).amax(1) - (call.logits_to_keep - 1)
    if option == "last":
        columns, counts = last[:, None], torch.ones_like(last[:, None], dtype=torch.bool)
    else:
        visual = torch.stack(list(call.placeholders.values())).any(0).to(real.device)
        after = torch.where(visual, place, -1).amax(1, keepdim=True)
        chosen = real & (place > after) & (place <= last[:, None])
        width = max(1, int(chosen.sum(1).max()))
        columns = torch.argsort(chosen.to(torch.int8), dim=1, stable=True)[:, -width:]
        counts = chosen.gather(1, columns)
    if segment.packing is not None:
        columns = inverse(segment.packing).to(columns.device).gather(1, columns).clamp_min(0)
    return columns, counts


def _query_rows(attention: AttentionCall, need: Need, collector: Collector) -> Tensor:
    columns, counts = query_columns(collector.context, need.option or "last")
    rows = attention_rows(attention, columns.to(attention.q.device)).mean(1)  # [B, R, K]
    weight = counts.to(rows.dtype).to(rows.device)[..., None]
    return (rows * weight).sum(1) / weight.sum(1).clamp_min(1)


def _received(attention: AttentionCall, need: Need, collector: Collector) -> Tensor:
    return received(attention)


DECODER_MEASURES = {"query_rows": _query_rows, "received": _received}


def _measure(need: Need, attention: AttentionCall, collector: Collector) -> Tensor:
    return DECODER_MEASURES[need.stat](attention, need, collector)
