"""PyramidDrop: keep fewer and fewer visual tokens, stage by stage through the language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..core.budget import Keep
from ..core.stage import ModelFacts, Need, View
from ._schedule import Scheduled
from .base import check_range
from .scorer import Cut


@dataclass(kw_only=True)
class PyramidDrop(Scheduled):
    """Cuts at a quarter, a half and three quarters of the depth, by the attention of the last prompt token.

    The L decoder layers are split into S + 1 = 4 stages of equal length; a cut stands before the 0-based layers
    ``l_s = s * L / 4``, s = 1, 2, 3 (8, 16, 24 of 32). With lambda = 0.5 and N the visual tokens that entered::

        cut s keeps    n_s = int(N * lambda^s)        50 %, 25 %, 12.5 % of N
        score          a_i = mean over heads of softmax(q_last k^T / sqrt(d))_i

    ``q_last`` and ``k`` are the query of the last instruction token and the keys of layer ``l_s``, computed from the
    hidden states that enter it (its own input norm, rotary embedding with the positions valid before this cut), over
    all tokens; the layer itself then runs on the shortened sequence. The largest n_s scores stay, in their original
    order. Nothing is decided again in decode.

    Parameters
    ----------
    keep : float or int
        Share of the visual tokens left after the last cut, lambda cubed, or tokens per image left there: another value
        sets lambda to its cube root. The mean over layers is ``(1 + lambda + lambda^2 + lambda^3) / 4``, 46.9 % of N by
        default; the report shows it.
    cuts : int
        Number S of cuts, evenly spread over the depth.

    Notes
    -----
    Source: arXiv 2410.17247, and its code where the text is silent: the layer that is about to run does the ranking,
    counts are truncated, and 1-D positions are renumbered after every cut. Decided here: depths that S + 1 does not
    divide are rounded, all images of a prompt compete together, ties go to the lower index, fp32, at least one token
    stays; only the one row of attention is computed and the model keeps its kernel.
    """

    name: ClassVar[str] = "pyramiddrop"
    summary: ClassVar[str] = "attention of the last prompt token, halving at L/4, L/2, 3L/4 (baseline)"
    paper: ClassVar[str] = "2410.17247"
    keep: Keep = 0.125
    cuts: int = 3
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number of cuts >= 1", lambda v: v >= 1, "cuts")

    def layers(self, depth: int) -> list[int]:
        """0-based decoder layers before which tokens are cut.

        Raises
        ------
        ValueError
            The decoder has too few layers for that many cuts.
        """
        if depth <= self.cuts:
            raise ValueError(f"pyramiddrop makes {self.cuts} cuts, and this decoder has {depth} layers: pass cuts=1.")
        return [max(s, round(s * depth / (self.cuts + 1))) for s in range(1, self.cuts + 1)]

    @property
    def shares(self) -> list[float]:
        """Shares of N that the cuts leave with lambda = 0.5."""
        return [0.5 ** (s + 1) for s in range(self.cuts)]

    def schedule(self, facts: ModelFacts) -> list[Cut]:
        """One cut per stage; each reads the layer it stands before."""
        layers = self.layers(facts.decoder_layers)
        return [Cut(n, layer, (Need("decoder", layer, "next_rows", "last"),)) for n, layer in enumerate(layers)]

    def score(self, view: View, *stats: Tensor) -> Tensor:
        """Score by what the last prompt token looks at in the layer to come."""
        return stats[0]
