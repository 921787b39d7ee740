"""DivPrune: keep the subset of tokens whose closest pair is as far apart as possible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.diversity import greedy_spread, most_isolated
from ..core.select import with_structure
from ..core.stage import Selection, View
from ._cen import Cosines, candidate_sets
from ._diverse import spread_scores
from .scorer import BeforeLLM


@dataclass(kw_only=True)
class DivPrune(Cosines, BeforeLLM):
    """Max-min diverse tokens after the projector: the subset whose closest pair is as far apart as possible.

    Let ``X`` be the projected tokens of an image, ``x_v = X_v / |X_v|`` (fp32), distance ``d(u, v) = 1 - x_u . x_v``.
    The max-min diversity problem asks for the K-subset with the largest smallest distance between two of its members;
    it is solved greedily::

        first pick   argmax_v  min_{u != v}      d(u, v)        the token whose nearest neighbour is farthest
        next pick    argmax_v  min_{c in picked} d(c, v)
        keep         the picks in their original order

    With ``geometry="cen"`` the rows are centred, and the next pick is ``argmax_v g_v min_c d(c, v)`` with the weight
    ``g`` from the negative mean cosine of the rows before that; the first pick has no weight.

    Neither the question nor any attention is read, so the method runs on every architecture.

    Parameters
    ----------
    keep : float or int
        Share of each image's patches, or tokens per image (the paper's headline is 0.098).
    joint : bool
        One set of all crops of an image (or frames of a video, or images of a prompt); False: each crop and frame with
        its own share, as the paper of "cen" has it.

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
    joint: bool = True
    scope: Literal["image", "row"] = "image"

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Pick farthest first among the patches."""
        if view.patch_budget >= len(view.patches):
            return Selection(keep=with_structure(view.patches, view.role, self.newlines))
        picks, scores = [], None
        for rows, k in candidate_sets(view, self.joint, self.keep):
            unit, weight = self.directions(view.features[rows]), self.weights(view.features[rows])
            if k:
                spread = greedy_spread(unit, k, most_isolated(unit), "k_center", weight)
                picks.append(rows[spread.order])
                scores = spread_scores(spread, rows, view.n, "k_center", scores)
        return Selection(keep=with_structure(torch.cat(picks), view.role, self.newlines), scores=scores)
