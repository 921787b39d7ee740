"""FastV: after layer K keep the visual tokens the last prompt token attends to most (arXiv 2403.06764).

Specification
-------------
Layers are counted from 0 here; K layers run on everything. With the attention ``A`` of layer ``K - 1`` (after the
softmax, mean over heads, fp32) and the last prompt token as the query ``q``::

    phi_i = A[q, i]                               for every visual token i of the prompt
    keep    the round((1 - R) * n) largest phi    in their original order, from layer K on

The headline setting is K = 2, R = 50 %. Layers before K keep all keys and values; nothing is decided again in decode.

The paper calls phi the attention a token receives "from all other tokens"; its code takes the last token's row, which
is what is done here and in all later comparisons. It works on one image of one unpadded prompt with eager attention.
Decided here: all images of a prompt compete together (``scope="image"``: each on its own), padding, ties to the lower
index, the query of a prompt with draft tokens behind it is the last one of the prompt. Positions are kept, as in the
code. Only the one row of ``A`` is computed, from q and k of layer ``K - 1``; the model keeps its attention kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from ..core.budget import Keep
from ..core.select import topk_indices
from ..core.stage import Decoder, ModelFacts, Need, Selection, Stage, View
from .base import Method, check_range


@dataclass(kw_only=True)
class FastV(Method):
    """One cut after the first layers by the attention of the last prompt token; see the module for the equations.

    Parameters
    ----------
    keep : float or int
        1 - R: share of each image's tokens, or tokens per image, that layers from ``layer`` on see. The mean over
        layers, which the report shows, is larger.
    layer : int
        K, the number of layers that see every token (>= 1).
    scope : {"row", "image"}
        One ranking for all images of a prompt, with their budgets added up, or one per image.
    positions : {"keep", "renumber"}
        1-D position ids behind the cut. M-RoPE always keeps them.
    """

    name: ClassVar[str] = "fastv"
    summary: ClassVar[str] = "attention of the last prompt token after layer 2 (baseline)"
    paper: ClassVar[str] = "2403.06764"
    keep: Keep = 0.5
    layer: int = 2
    scope: Literal["row", "image"] = "row"
    positions: Literal["keep", "renumber"] = "keep"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number of layers >= 1, as one must run to have its attention", lambda v: v >= 1, "layer")

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One cut before decoder layer K; it reads layer K - 1."""
        need = Need("decoder", self.layer - 1, "query_rows", "last")
        return [
            Stage(
                at=Decoder(self.layer),
                select=partial(self.select, need=need),
                keep_count=self.keep_count,
                needs=(need,),
                scope=self.scope,
                positions=self.positions,
            )
        ]

    def select(self, view: View, need: Need) -> Selection:
        """Keep what the last prompt token looks at."""
        scores = view.stats[need]
        return Selection(keep=topk_indices(scores, view.budget), scores=scores)
