"""TransPrune: prune by how much the layers change a token and by what the instruction looks at (arXiv 2507.20630)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.budget import Keep
from ..core.select import topk_indices
from ..core.stage import Decoder, ModelFacts, Need, Selection, Stage, View
from ..core.words import shown
from ._schedule import entered, scaled_layers, scaled_shares
from .base import Method, check_range

PRESETS = {"high": (0.875, 0.625, 0.125), "low": (0.625, 0.1875, 0.0625)}
DEPTH = 32


def share(x: Tensor) -> Tensor:
    """Part of the sum, guarded against a sum of zero."""
    return x / (x.sum() + 1e-8)


@dataclass(kw_only=True)
class TransPrune(Method):
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
    accumulate : bool
        False: TTV of the last layer alone.
    use_iga : bool
    scope : {"row", "image"}
        One ranking for all images of a prompt, or one per image.
    positions : {"renumber", "keep"}
        1-D position ids behind each cut: contiguous (the code) or the original ones. M-RoPE always keeps them.

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
    scope: Literal["row", "image"] = "row"
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        _check_schedule(self.shares, tuple(self.prune_layers), tuple(self.accumulate_layers))
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

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage per cut; it reads the transition of layers before it and the attention of the next one."""
        cuts, sums = self.layers(facts.decoder_layers)
        stages = []
        for layer, number in cuts.items():
            ran = [a for a in sums if a <= layer]
            ran = ran if self.accumulate else ran[-1:]
            transitions = tuple(Need("decoder", a - 1, "transition", (self.direction, self.domain)) for a in ran)
            iga = Need("decoder", layer, "next_rows", "text") if self.use_iga and self.alpha < 1 else None
            stages.append(
                Stage(
                    at=Decoder(layer),
                    select=partial(self.select, number=number, transitions=transitions, iga=iga),
                    keep_count=self.keep_count,
                    needs=transitions if iga is None else (*transitions, iga),
                    scope=self.scope,
                    positions=self.positions,
                )
            )
        return stages

    def count(self, n: int, number: int, images: int = 1) -> int:
        """Tokens left of ``n`` after cut ``number`` of the schedule (from 0)."""
        if isinstance(self.keep, int) and number == len(self.shares) - 1:
            return min(n, self.keep * images)
        return max(1, int(n * scaled_shares(self.shares, self.keep, n, images)[number]))

    def select(self, view: View, number: int, transitions: tuple[Need, ...], iga: Need | None) -> Selection:
        """Rank by transition and attention."""
        total, images = entered(view, self, self.scope)
        t = torch.stack([view.stats[need] for need in transitions]).sum(0)
        scores = self.score(t, None if iga is None else view.stats[iga])
        return Selection(keep=topk_indices(scores, self.count(total, number, images)), scores=scores)

    def score(self, t: Tensor, a: Tensor | None) -> Tensor:
        """Combine summed transitions ``t`` [n] and text attention ``a`` [n] (None, or all zero: ``t`` alone)."""
        if self.combination == "raw":
            return t if a is None else self.alpha * t + (1 - self.alpha) * a
        return share(t) if a is None else self.alpha * share(t) + (1 - self.alpha) * share(a)


def _check_schedule(shares: tuple[float, ...], cuts: tuple[int, ...], sums: tuple[int, ...]) -> None:
    falls = all(a >= b for a, b in zip(shares, shares[1:], strict=False))
    if not shares or not falls or not all(0.0 < r <= 1.0 for r in shares):
        raise ValueError(f"ratios={shown(shares)} is not allowed: pass shares in (0, 1] that do not grow.")
    if len(cuts) != len(shares) or list(cuts) != sorted(set(cuts)) or min(cuts) < 1:
        raise ValueError(
            f"prune_layers={shown(cuts)} is not allowed: pass {len(shares)} growing numbers >= 1, one per share of "
            f"ratios={shown(shares)}."
        )
    if not sums or min(sums) < 1 or min(sums) > min(cuts):
        raise ValueError(
            f"accumulate_layers={shown(sums)} is not allowed: pass numbers >= 1, "
            f"the first at or before the first cut ({cuts[0]}, of prune_layers)."
        )
