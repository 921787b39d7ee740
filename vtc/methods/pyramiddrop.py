"""PyramidDrop: keep fewer and fewer visual tokens, stage by stage through the language model (arXiv 2410.17247).

Specification
-------------
The L decoder layers are split into S + 1 = 4 stages of equal length; a cut stands before the 0-based layers
``l_s = s * L / 4``, s = 1, 2, 3 (8, 16, 24 of 32). With lambda = 0.5 and N the visual tokens that entered::

    cut s keeps    n_s = int(N * lambda^s)        50 %, 25 %, 12.5 % of N
    score          a_i = mean over heads of softmax(q_last k^T / sqrt(d))_i

``q_last`` and ``k`` are the query of the last instruction token and the keys of layer ``l_s``, computed from the
hidden states that enter it (its own input norm, rotary embedding with the positions valid before this cut), over all
tokens; the layer itself then runs on the shortened sequence. The largest n_s scores stay, in their original order.
Nothing is decided again in decode.

Following the published code where the text is silent: the layer that is about to run does the ranking, counts are
truncated, and 1-D positions are renumbered after every cut (``positions="keep"`` keeps them; M-RoPE always does).
Decided here: depths that 4 does not divide are rounded, all images of a prompt compete together unless
``scope="image"``, ties go to the lower index, fp32, at least one token stays; only the one row of attention is computed
and the model keeps its kernel.

``keep`` is the share that is left after the last cut, lambda^3 (default 0.125): another value sets lambda to its cube
root. The mean over layers is ``(1 + lambda + lambda^2 + lambda^3) / 4``, 46.9 % of N by default; the report shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from ..core.budget import Keep
from ..core.select import topk_indices
from ..core.stage import Decoder, ModelFacts, Need, Selection, Stage, View
from ._schedule import entered, scaled_shares
from .base import Method, check_range


@dataclass(kw_only=True)
class PyramidDrop(Method):
    """Cuts at a quarter, a half and three quarters of the depth; see the module for the equations.

    Parameters
    ----------
    keep : float or int
        Share of the visual tokens left after the last cut (lambda cubed), or tokens per image left there.
    cuts : int
        Number S of cuts, evenly spread over the depth.
    scope : {"row", "image"}
        One ranking for all images of a prompt, or one per image.
    positions : {"renumber", "keep"}
        1-D position ids behind each cut. M-RoPE always keeps them.
    """

    name: ClassVar[str] = "pyramiddrop"
    summary: ClassVar[str] = "attention of the last prompt token, halving at L/4, L/2, 3L/4 (baseline)"
    paper: ClassVar[str] = "2410.17247"
    keep: Keep = 0.125
    cuts: int = 3
    scope: Literal["row", "image"] = "row"
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

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One cut per stage; each reads the layer it stands before."""
        stages = []
        for number, layer in enumerate(self.layers(facts.decoder_layers)):
            need = Need("decoder", layer, "next_rows", "last")
            stages.append(
                Stage(
                    at=Decoder(layer),
                    select=partial(self.select, number=number, need=need),
                    keep_count=self.keep_count,
                    needs=(need,),
                    scope=self.scope,
                    positions=self.positions,
                )
            )
        return stages

    def count(self, n: int, number: int, images: int = 1) -> int:
        """Tokens left of ``n`` after cut ``number`` (from 0)."""
        shares = scaled_shares([0.5 ** (s + 1) for s in range(self.cuts)], self.keep, n, images)
        if isinstance(self.keep, int) and number == self.cuts - 1:
            return min(n, self.keep * images)
        return max(1, int(n * shares[number]))

    def select(self, view: View, number: int, need: Need) -> Selection:
        """Keep what the last prompt token looks at in the layer to come."""
        scores = view.stats[need]
        total, images = entered(view, self, self.scope)
        return Selection(keep=topk_indices(scores, self.count(total, number, images)), scores=scores)
