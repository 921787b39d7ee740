"""Measurements inside the decoder: attention rows of one layer, brought to logical columns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...core.stage import Need
from ...core.stats import AttentionCall, mean_rows, received, relevance
from ..cache import layer_at, stored
from ..forward import Forward
from ..seams import Arguments
from ..site import Site
from ..wrapping import Undo
from .ahead import measure_ahead
from .tap import AttentionTap, Collector, finite
from .transitions import watch


class DecoderMeter:
    """Taps on the attention modules whose rows some stage needs; they collect during prefill only.

    Parameters
    ----------
    more : dict of Need to callable
        Measures of listeners, by need.
    """

    def __init__(self, site: Site, needs: list[Need], more: dict[Need, Callable]) -> None:
        self.site, self.more = site, more
        self.inputs = [n for n in needs if n.stat == "hidden_in" and n.layer == 0]
        self.needs = [n for n in needs if n not in self.inputs]

    @property
    def measures(self) -> bool:
        """True when anything is read while the layers run."""
        return bool(self.needs or self.more)

    def install(self, undo: Undo) -> None:
        """Tap every layer that is needed.

        Raises
        ------
        ValueError
            A layer cannot be read, or a statistic is unknown.
        """
        every = [*self.needs, *self.more]
        for index in dict.fromkeys(n.layer for n in every):
            mine, layer = [n for n in every if n.layer == index], self.site.layers[index]
            watched = [n for n in mine if n.stat == "transition"]
            if watched:
                undo.add(*watch(layer, index, watched))
            measures = {n: self._measure(n) for n in mine if n not in watched}
            ahead = {n: measures.pop(n) for n in mine if n.stat == "next_rows"}
            if measures or ahead:
                undo.add(self._tap(layer, index, measures, ahead))

    def _measure(self, need: Need) -> Callable:
        if need in self.more:
            return self.more[need]
        if need.stat not in DECODER_MEASURES:
            raise ValueError(f"The decoder can measure {sorted(MEASURED)}, not {need.stat!r}.")
        return functools.partial(_measure, need)

    def _tap(self, layer: nn.Module, index: int, measures: dict[Need, Any], ahead: dict[Need, Any]) -> AttentionTap:
        module = self.site.attention(layer)
        if module is None:
            raise ValueError(f"Decoder layer {index} has no attention module to read from.")
        return AttentionTap(module, measures, ahead)

    def note_inputs(self, forward: Forward, rows: Tensor) -> None:
        """Keep the rows [B, L, D] that enter the language model, where a stage reads them."""
        forward.meter.stats |= dict.fromkeys(self.inputs, rows.detach())

    def flush(self, forward: Forward) -> None:
        """Move what was measured since the last cut to the forward's statistics, in logical columns."""
        collector = forward.meter.collector
        if collector is None:
            return
        for need in [n for n in collector.values if n not in self.more]:
            values = collector.values.pop(need)
            stat = torch.stack(values).sum(0) if need.stat == "transition" else values[-1]
            self._store(forward, need, stat, end_of_keys(forward, need.layer, stat.shape[-1]))

    def wants_ahead(self, index: int) -> bool:
        """True when a stage before layer ``index`` reads that layer's own attention."""
        return any(n.stat == "next_rows" and n.layer == index for n in self.needs)

    def look_ahead(self, forward: Forward, index: int, given: Arguments) -> None:
        """Measure layer ``index`` on the rows and side inputs it would get without the cut."""
        for need, values in measure_ahead(self.site.layers[index], given, forward).items():
            self._store(forward, need, values[-1], values[-1].shape[-1])

    @staticmethod
    def _store(forward: Forward, need: Need, stat: Tensor, end: int) -> None:
        if need.stat != "masses":  # the one statistic that is not per token
            width = forward.tokens.now.width
            stat = forward.tokens.unfold(stat[..., end - width : end])
        forward.meter.stats[need] = stat


def end_of_keys(forward: Forward, index: int, keys: int) -> int:
    """Key column behind this forward's last one: static caches have blank slots after it."""
    layer: Any = layer_at(forward.past.cache, index)
    return min(keys, stored(layer)) if getattr(layer, "is_compileable", False) else keys


def query_columns(forward: Forward, option: object) -> tuple[Tensor, Tensor]:
    """Physical columns [B, R] of the query rows and which of them count [B, R].

    ``"last"``: the last prompt token. ``"text"``: all tokens after the last visual one, up to the same; ``"inner"``:
    these but for the first and the last. ``"all"``: all tokens up to the same.
    """
    layout, last = forward.tokens, end_of_prompt(forward)
    if option == "last":
        columns, counts = last[:, None], (last >= 0)[:, None]
    else:
        place = torch.arange(layout.length, device=layout.real.device).expand_as(layout.real)
        chosen = layout.real & (place <= last[:, None])
        if option != "all":
            after = torch.where(layout.visual, place, -1).amax(1, keepdim=True)
            inner = int(option == "inner")
            chosen = chosen & (place > after + inner) & (place <= last[:, None] - inner)
        width = max(1, int(chosen.sum(1).max()))
        columns = torch.argsort(chosen.to(torch.int8), dim=1, stable=True)[:, -width:]
        counts = chosen.gather(1, columns)
    return layout.place(columns), counts


def end_of_prompt(forward: Forward) -> Tensor:
    """Logical column of the last prompt token of every row [B]; -1 where a row has none."""
    if forward.end is None:
        raise RuntimeError("The end of this prompt was not noted.")
    return forward.end


def kinds_of(forward: Forward, system: int | None) -> tuple[Tensor, Tensor]:
    """Physical columns that are text and those that are visual: bool [B, K] each; system prompt and padding neither.

    ``system`` is the number of leading real tokens that make the system prompt; None: all before the first image. The
    token right before an image, ``<|vision_start|>`` and the like, is no text.
    """
    layout, last = forward.tokens, end_of_prompt(forward)
    real, now = layout.real, layout.now
    place = torch.arange(layout.length, device=real.device).expand_as(real)
    visual = layout.visual & real
    head = visual.cumsum(1) == 0 if system is None else real.cumsum(1) <= system
    opening = torch.nn.functional.pad(visual[:, 1:], (0, 1))
    text = real & ~visual & ~head & ~opening & (place <= last[:, None])
    text, visual = layout.take(text), layout.take(visual)
    return (text, visual) if now.packing is None or now.valid is None else (text & now.valid, visual & now.valid)


def _masses(attention: AttentionCall, need: Need, forward: Forward) -> Tensor:
    text, visual = kinds_of(forward, need.option)  # type: ignore[arg-type]
    device = attention.q.device
    end = end_of_keys(forward, need.layer, attention.k.shape[2])
    return relevance(attention, text.to(device), visual.to(device), end - text.shape[1])


def _query_rows(attention: AttentionCall, need: Need, forward: Forward) -> Tensor:
    columns, counts = query_columns(forward, need.option or "last")
    return mean_rows(attention, columns.to(attention.q.device), counts.to(attention.q.device))


def _received(attention: AttentionCall, need: Need, forward: Forward) -> Tensor:
    return received(attention)


DECODER_MEASURES = {"query_rows": _query_rows, "next_rows": _query_rows, "received": _received, "masses": _masses}
MEASURED = {*DECODER_MEASURES, "actions", "transition", "hidden_in"}
"""All a decoder stage may need: transitions come from hooks on modules, the rest from attention taps."""


def _measure(need: Need, attention: AttentionCall, collector: Collector) -> Tensor:
    if not finite(attention):
        raise ValueError(
            f"Attention of decoder layer {need.layer} is not finite (NaN or infinite): no method can rank by it. Look "
            "at the weights and the dtype of the model."
        )
    return DECODER_MEASURES[need.stat](attention, need, collector.context)
