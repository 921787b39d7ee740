"""Measurements inside the decoder: attention rows of one layer, brought to logical columns."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...core.stage import Need
from ...core.statistics import AttentionCall
from ..forward import Forward
from ..seams import Arguments
from ..site import Site
from ..wrapping import Undo
from .ahead import measure_ahead
from .context import DecoderContext, end_of_keys
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
        self.inputs = [n for n in needs if n.statistic.source == "inputs"]
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
            A layer cannot be read, or a stage asks for what is no stage's to ask.
        """
        every = [*self.needs, *self.more]
        for index in dict.fromkeys(n.layer for n in every):
            mine, layer = [n for n in every if n.layer == index], self.site.layers[index]
            watched = [n for n in mine if n.statistic.source == "modules"]
            if watched:
                watch(layer, index, watched, undo)
            measures = {n: self._measure(n) for n in mine if n not in watched}
            ahead = {n: measures.pop(n) for n in mine if n.statistic.source == "ahead"}
            if measures or ahead:
                undo.add(self._tap(layer, index, measures, ahead))

    def _measure(self, need: Need) -> Callable:
        if need in self.more:
            return self.more[need]
        if need.statistic.source == "feedback":
            raise ValueError(f"{need.stat!r} is measured for a method's feedback() alone; no stage can ask for it.")
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
            stat = torch.stack(values).sum(0) if need.statistic.summed else values[-1]
            self._store(forward, need, stat, end_of_keys(forward, need.layer, stat.shape[-1]))

    def wants_ahead(self, index: int) -> bool:
        """True when a stage before layer ``index`` reads that layer's own attention."""
        return any(n.statistic.source == "ahead" and n.layer == index for n in self.needs)

    def look_ahead(self, forward: Forward, index: int, given: Arguments) -> None:
        """Measure layer ``index`` on the rows and side inputs it would get without the cut."""
        for need, values in measure_ahead(self.site.layers[index], given, forward).items():
            self._store(forward, need, values[-1], values[-1].shape[-1])

    @staticmethod
    def _store(forward: Forward, need: Need, stat: Tensor, end: int) -> None:
        if need.statistic.per_token:
            width = forward.tokens.now.width
            stat = forward.tokens.unfold(stat[..., end - width : end])
        forward.meter.stats[need] = stat


def _measure(need: Need, attention: AttentionCall, collector: Collector) -> Tensor:
    if not finite(attention):
        raise ValueError(
            f"Attention of decoder layer {need.layer} is not finite (NaN or infinite): no method can rank by it. Look "
            "at the weights and the dtype of the model."
        )
    return need.statistic.compute(attention, need.option, DecoderContext(collector.context, need.layer))
