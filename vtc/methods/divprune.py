"""DivPrune: keep the subset of tokens whose closest pair is as far apart as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ..core.diversity import greedy_spread, most_isolated, unit_rows
from ..core.select import with_structure
from ..core.stage import Selection, View
from ._diverse import spread_scores
from .scorer import BeforeLLM


@dataclass(kw_only=True)
class DivPrune(BeforeLLM):
    """Max-min diverse tokens after the projector: the subset whose closest pair is as far apart as possible.

    Let ``X`` be the projected tokens of an image, ``x_v = X_v / |X_v|`` (fp32), distance ``d(u, v) = 1 - x_u . x_v``.
    The max-min diversity problem asks for the K-subset with the largest smallest distance between two of its members;
    it is solved greedily::

        first pick   argmax_v  min_{u != v}      d(u, v)        the token whose nearest neighbour is farthest
        next pick    argmax_v  min_{c in picked} d(c, v)
        keep         the picks in their original order

    Neither the question nor any attention is read, so the method runs on every architecture.

    Parameters
    ----------
    keep : float or int
        Share of each image's patches, or tokens per image (the paper's headline is 0.098).
    geometry : {"raw", "centered"}
        Cosines of the tokens as they are, or after subtracting the mean token of the image, which is what all tokens
        have in common and hides what tells them apart (arXiv 2608.30263; its term for distinctiveness in the raw space
        is not here).

    Notes
    -----
    Source: arXiv 2503.02175. Differences from the published code, which handles one sequence of one batch row: any
    batch and any number of images, each on its own unless ``scope="row"``; newline rows are no candidates; a zero row
    has cosine 0 to everything instead of NaN; fp32 throughout; ties go to the lower index; one running minimum per
    token and Gram rows as they are needed, instead of the N x N distance matrix read again at every pick. The first
    pick still compares all pairs, in blocks.
    """

    name: ClassVar[str] = "divprune"
    summary: ClassVar[str] = "max-min diverse tokens, no attention needed (baseline)"
    paper: ClassVar[str] = "2503.02175"
    geometry: Literal["raw", "centered"] = "raw"
    scope: Literal["image", "row"] = "image"

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Pick farthest first among the patches."""
        rows, k = view.patches, view.patch_budget
        if k >= len(rows):
            return Selection(keep=with_structure(rows, view.role, self.newlines))
        unit = unit_rows(view.features[rows], centered=self.geometry == "centered")
        spread = greedy_spread(unit, k, most_isolated(unit), "k_center")
        kept = with_structure(rows[spread.order], view.role, self.newlines)
        return Selection(keep=kept, scores=spread_scores(spread, rows, view.n, "k_center"))
