"""FastV: after layer K keep the visual tokens the last prompt token attends to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..core.budget import Keep
from ..core.stage import ModelFacts, Need, View
from .base import check_range
from .scorer import Cut, InsideLLM


@dataclass(kw_only=True)
class FastV(InsideLLM):
    """One cut after the first layers by the attention of the last prompt token.

    Layers are counted from 0; K layers run on everything. With the attention ``A`` of layer ``K - 1`` (after the
    softmax, mean over heads, fp32) and the last prompt token as the query ``q``::

        phi_i = A[q, i]                               for every visual token i of the prompt
        keep    the round((1 - R) * n) largest phi    in their original order, from layer K on

    The headline setting is K = 2, R = 50 %. Layers before K keep all keys and values; nothing is decided again in
    decode. Only the one row of ``A`` is computed, and the model keeps its attention kernel.

    Parameters
    ----------
    keep : float or int
        1 - R: share of each image's tokens, or tokens per image, that layers from ``layer`` on see. The mean over
        layers, which the report shows, is larger.
    layer : int
        K, the number of layers that see every token (>= 1).

    Notes
    -----
    Source: arXiv 2403.06764 and its code. The paper calls phi the attention a token receives "from all other tokens";
    the code takes the last token's row, which is what is done here and in all later comparisons. The code works on one
    image of one unpadded prompt with eager attention. Decided here: all images of a prompt compete together, padding,
    ties to the lower index, the query of a prompt with draft tokens behind it is the last one of the prompt.
    """

    name: ClassVar[str] = "fastv"
    summary: ClassVar[str] = "attention of the last prompt token after layer 2 (baseline)"
    paper: ClassVar[str] = "2403.06764"
    keep: Keep = 0.5
    layer: int = 2

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number of layers >= 1, as one must run to have its attention", lambda v: v >= 1, "layer")

    def schedule(self, facts: ModelFacts) -> list[Cut]:
        """One cut before decoder layer K; it reads layer K - 1."""
        return [Cut(0, self.layer, (Need("decoder", self.layer - 1, "query_rows", "last"),))]

    def score(self, view: View, *stats: Tensor) -> Tensor:
        """Score by what the last prompt token looks at."""
        return stats[0]
