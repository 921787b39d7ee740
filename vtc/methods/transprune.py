"""TransPrune: prune by how much the layers change a token and by what the instruction looks at ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.budget import Keep
from ..core.stage import ModelFacts, Need, View
from ._schedule import Scheduled, check_schedule, scaled_layers
from .base import check_range
from .scorer import Cut

PRESETS = {"high": (0.875, 0.625, 0.125), "low": (0.625, 0.1875, 0.0625)}
DEPTH = 32


def share(x: Tensor) -> Tensor:
    """Part of the sum, guarded against a sum of zero."""
    return x / (x.sum() + 1e-8)


@dataclass(kw_only=True)
class TransPrune(Scheduled):
    """Cuts after layers 7, 9 and 12 by token transition (TTV) and instruction-guided attention (IGA).

    For the input u and the output y of the attention module (after the input norm, before the residual) and of the
    feed-forward module of a layer, over all tokens j of the sequence::

        g_i = |y_i| / |u_i| * e_i / sum_j e_j,    e_i = exp(1 - cos(u_i, y_i)),    TTV_i = g_i(attention) + g_i(ffn)

    A cut sums the TTV of the accumulation layers that have run (t), takes the attention of the text behind the last
    image to each visual token in the layer about to run, mean over heads and text rows (a), and keeps the largest
    ``alpha * t / sum t + (1 - alpha) * a / sum a`` in their original order. Nothing is merged and nothing is decided
    again in decode.

    Parameters
    ----------
    keep : float or int or None
        Share of the visual tokens left after the last cut, or tokens per image left there. None: the schedule's own.
        Another value bends the whole schedule, share r becoming ``r ** (log keep / log r_last)``. The mean over
        layers, which the report shows, is larger.
    preset : {"high", "low"}
        Schedule of shares of the original count: (0.875, 0.625, 0.125), or (0.625, 0.1875, 0.0625), which is not
        published but inferred from the paper's FLOPs.
    ratios : sequence of float or None
        Schedule instead of the preset's, one share per cut.
    prune_layers, accumulate_layers : sequence of int
        Counted from 1: cuts stand behind the first, TTV is summed over the second.
    scale_depth : bool or None
        Multiply these numbers by L / 32. None: only where the decoder is too shallow for them.
    alpha : float
        Weight of TTV in [0, 1]; 1 leaves IGA out, and so does ``use_iga=False``.
    direction : {"signed", "abs"}
        1 - cos (the code) or 1 - abs(cos) (the paper).
    domain : {"sequence", "image"}
        Tokens over which e is normalised.
    combination : {"normalized", "raw"}
        Divide t and a by their sums (the code) or not (the paper).
    accumulate, use_iga : bool
        False: TTV of the last layer alone; no attention of the text.

    Notes
    -----
    Source: arXiv 2507.20630 version 2 and its published code, whose rules are the defaults where the two differ.
    Decided here: sums per sample without padding, all images of a prompt as one set, one and the same kind of ranking
    for newline rows, prompts without text behind the last image fall back to TTV alone, ties to the lower index, fp32
    sums, at least one token stays.
    """

    name: ClassVar[str] = "transprune"
    summary: ClassVar[str] = "token transition plus attention of the instruction, cuts after layers 7, 9, 12"
    paper: ClassVar[str] = "2507.20630"
    keep: Keep = None  # type: ignore[assignment]  # a number after __post_init__
    preset: Literal["high", "low"] = "high"
    ratios: Sequence[float] | None = None
    prune_layers: Sequence[int] = (7, 9, 12)
    accumulate_layers: Sequence[int] = (7, 8, 9, 10, 11, 12)
    scale_depth: bool | None = None
    alpha: float = 0.5
    direction: Literal["signed", "abs"] = "signed"
    domain: Literal["sequence", "image"] = "sequence"
    combination: Literal["normalized", "raw"] = "normalized"
    accumulate: bool = True
    use_iga: bool = True
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        check_schedule(self.shares, tuple(self.prune_layers), tuple(self.accumulate_layers))
        if self.keep is None:
            self.keep = self.shares[-1]
        super().__post_init__()
        check_range(self, "a weight in [0, 1]", lambda v: 0.0 <= v <= 1.0, "alpha")

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the original count that the cuts keep, before ``keep`` bends them."""
        return PRESETS[self.preset] if self.ratios is None else tuple(self.ratios)

    def layers(self, depth: int) -> tuple[dict[int, int], list[int]]:
        """Cuts {layers that have run: number in the schedule} and accumulation layers, all counted from 1.

        Cuts that meet at one layer of a shallow decoder become one, the later in the schedule.

        Raises
        ------
        ValueError
            A cut would stand behind the last layer.
        """
        cuts, sums = list(self.prune_layers), list(self.accumulate_layers)
        if self.scale_depth or (self.scale_depth is None and max(cuts) >= depth):
            cuts, sums = scaled_layers(cuts, depth, DEPTH), scaled_layers(sums, depth, DEPTH)
        if max(cuts) >= depth:
            raise ValueError(
                f"transprune cuts behind layers {cuts}, and this decoder has {depth}: a cut needs a layer behind it. "
                "Pass smaller prune_layers, or scale_depth=True."
            )
        return {layer: number for number, layer in enumerate(cuts)}, sorted(set(sums))

    def schedule(self, facts: ModelFacts) -> list[Cut]:
        """Cuts that read the transition of layers before them and the attention of the next one."""
        cuts, sums = self.layers(facts.decoder_layers)
        found = []
        for layer, number in cuts.items():
            ran = [a for a in sums if a <= layer]
            ran = ran if self.accumulate else ran[-1:]
            needs = tuple(Need("decoder", a - 1, "transition", (self.direction, self.domain)) for a in ran)
            iga = (Need("decoder", layer, "next_rows", "text"),) if self._asks else ()
            found.append(Cut(number, layer, needs + iga))
        return found

    @property
    def _asks(self) -> bool:
        return self.use_iga and self.alpha < 1

    def score(self, view: View, *stats: Tensor) -> Tensor:
        """Combine the summed transitions and, where it is asked for, the attention of the text, which comes last."""
        transitions, attention = (stats[:-1], stats[-1]) if self._asks else (stats, None)
        return self.combine(torch.stack(transitions).sum(0), attention)

    def combine(self, t: Tensor, a: Tensor | None) -> Tensor:
        """Scores from summed transitions ``t`` [n] and text attention ``a`` [n] (None, or all zero: ``t`` alone)."""
        if self.combination == "raw":
            return t if a is None else self.alpha * t + (1 - self.alpha) * a
        return share(t) if a is None else self.alpha * share(t) + (1 - self.alpha) * share(a)
