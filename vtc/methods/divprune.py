"""DivPrune: keep the subset of tokens whose closest pair is as far apart as possible (arXiv 2503.02175).

Specification ------------- Let ``X`` be the projected tokens of an image, ``x_v = X_v / |X_v|`` (fp32),
distance ``d(u, v) = 1 - x_u . x_v``. The max-min diversity problem asks for the K-subset with the largest
smallest distance between two of its members; it is solved greedily::

    first pick   argmax_v  min_{u != v}      d(u, v)        the token whose nearest neighbour is farthest
    next pick    argmax_v  min_{c in picked} d(c, v)
    keep         the picks in their original order

Neither the question nor any attention is read, so the method runs on every architecture.

``geometry="centered"`` subtracts the mean token of the image before the rows are normalised. Projected tokens
share a large common component, which presses all cosines towards 1 and hides what tells them apart (arXiv
2608.30263).

Differences from the published code, which handles one sequence of one batch row: any batch and any number of
images, each on its own unless ``scope="row"``; newline rows are no candidates; a zero row has cosine 0 to
everything instead of NaN; fp32 throughout; ties go to the lower index; one running minimum per token and Gram
rows as they are needed, instead of the N x N distance matrix read again at every pick. The first pick still
compares all pairs, in blocks. Of arXiv 2608.30263 only the centring is here, not its term for distinctiveness
in the raw space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..core.diversity import greedy_spread, most_isolated, unit_rows
from ..core.select import Newlines, with_structure
from ..core.stage import ModelFacts, Projector, Selection, Stage, View
from ._diverse import candidate_count, spread_scores
from .base import Method


@dataclass(kw_only=True)
class DivPrune(Method):
    """Max-min diverse tokens after the projector; see the module for equations and differences.

    Parameters
    ----------
    keep : float or int
        Share of each image's patches, or tokens per image (the paper's headline is 0.098).
    geometry : {"raw", "centered"}
        Cosines of the tokens as they are, or after subtracting their mean.
    scope : {"image", "row"}
        One selection per image (or video), or one for all images of a prompt.
    newlines : {"drop", "keep"}
        Row separators of anyres images; kept ones come on top of the budget.
    positions : {"renumber", "keep"}
        1-D position ids after pruning. M-RoPE always keeps them.
    """

    name: ClassVar[str] = "divprune"
    summary: ClassVar[str] = "max-min diverse tokens, no attention needed (baseline)"
    paper: ClassVar[str] = "2503.02175"
    geometry: Literal["raw", "centered"] = "raw"
    scope: Literal["image", "row"] = "image"
    newlines: Newlines = "drop"
    positions: Literal["renumber", "keep"] = "renumber"

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, without needs."""
        return [
            Stage(
                at=Projector(),
                select=self.select,
                keep_count=self.keep_count,
                scope=self.scope,
                positions=self.positions,
            )
        ]

    def select(self, view: View) -> Selection:
        """Pick farthest first among the patches."""
        rows, k = view.patches, candidate_count(view)
        if k >= len(rows):
            return Selection(keep=with_structure(rows, view.role, self.newlines))
        unit = unit_rows(view.features[rows], centered=self.geometry == "centered")
        spread = greedy_spread(unit, k, most_isolated(unit), "k_center")
        kept = with_structure(rows[spread.order], view.role, self.newlines)
        return Selection(keep=kept, scores=spread_scores(spread, rows, view.n, "k_center"))
