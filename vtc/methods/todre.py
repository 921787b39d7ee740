"""ToDRE: keep tokens that are as unlike each other as possible (arXiv 2505.18757)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.diversity import Objective, greedy_spread, unit_rows
from ..core.select import Newlines, require_finite, with_structure
from ..core.stage import ModelFacts, Need, Projector, Selection, Stage, View
from ._diverse import candidate_count, spread_scores
from .base import Method, check_choice

Pivot = Literal["auto", "cls", "farthest", "center", "random"]


def thumbnail_first(view: View, rows: Tensor) -> Tensor:
    """Positions in ``rows`` a [CLS] pivot may come from: base crops of tiled images, all of the others."""
    allowed = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    for ordinal, unit in enumerate(view.units):
        mine = view.unit[rows] == ordinal
        base = mine & (view.part[rows] == 0)
        if unit.modality == "image" and bool(base.any()):
            allowed &= ~mine | base
    return allowed.nonzero(as_tuple=True)[0]


@dataclass(kw_only=True)
class ToDRE(Method):
    """Diversity-driven selection after the projector, blind to the question.

    With unit rows ``x_v`` the picks start at a pivot and go on greedily::

        max_sum:   next = argmin_v  sum_{c picked} cos(x_v, x_c)        (version 2 of the paper, Algorithm 1)
        k_center:  next = argmin_v  max_{c picked} cos(x_v, x_c)        (the name version 1 uses)

    The picked tokens stay in their original order, nothing is merged. Thumbnail and tiles of one image are
    one set of candidates, so are the frames of a video; images are independent of each other unless
    ``scope="row"``. Newline rows are no candidates: being equal to each other and unlike all patches they
    would eat the budget.

    Parameters
    ----------
    keep : float or int
        Share of each image's patches, or tokens per image; with ``scope="row"`` the budgets are added up.
    objective : {"max_sum", "k_center"}
        Max-sum may pick exact duplicates, k-center never does before all distinct rows are used.
    pivot : {"auto", "cls", "farthest", "center", "random"}
        First pick: most [CLS] attention (inside the thumbnail if there are tiles), least or most similar to
        the mean direction, or drawn with ``seed``. "auto" is "cls" for encoders with [CLS], else "farthest".
    cls_layer : int
        Encoder layer of the [CLS] attention, negative from the end: -1 is the last one, as in the paper's
        equation.
    seed : int
        For ``pivot="random"``.
    scope : {"image", "row"}
        One selection per image (or video), or one for all images of a prompt.
    newlines : {"drop", "keep"}
        Row separators of anyres images; kept ones come on top of the budget.
    positions : {"renumber", "keep"}
        1-D position ids after pruning. M-RoPE always keeps them.

    Notes
    -----
    Source: arXiv 2505.18757 version 2; no code is published. Decided here: head mean of the true
    softmax, whose [CLS] column is dropped (the paper writes one head and patches only), ties to the lower
    index, fp32.
    """

    name: ClassVar[str] = "todre"
    summary: ClassVar[str] = "greedy diversity of the projected tokens (max-sum or k-center)"
    paper: ClassVar[str] = "2505.18757"
    objective: Objective = "max_sum"
    pivot: Pivot = "auto"
    cls_layer: int = -1
    seed: int = 0
    scope: Literal["image", "row"] = "image"
    newlines: Newlines = "drop"
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_choice("objective", self.objective, ("max_sum", "k_center"))
        check_choice("pivot", self.pivot, ("auto", "cls", "farthest", "center", "random"))
        check_choice("scope", self.scope, ("image", "row"))
        check_choice("newlines", self.newlines, ("drop", "keep"))
        check_choice("positions", self.positions, ("renumber", "keep"))

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector; it reads one encoder layer when the pivot is a [CLS] one."""
        need = self._pivot_need(facts)
        return [
            Stage(
                at=Projector(),
                select=lambda view: self.select(view, need),
                keep_count=self.keep_count,
                needs=(need,) if need else (),
                scope=self.scope,
                positions=self.positions,
            )
        ]

    def _pivot_need(self, facts: ModelFacts) -> Need | None:
        if self.pivot not in ("auto", "cls") or (self.pivot == "auto" and not facts.has_class_token):
            return None
        if not facts.has_class_token:
            raise ValueError(
                f"pivot='cls' needs a [CLS] token, which the vision encoder of family {facts.family!r} "
                "has not. Pass pivot='farthest' (deterministic), 'center' or 'random'."
            )
        layer = self.cls_layer + facts.vision_layers if self.cls_layer < 0 else self.cls_layer
        if not 0 <= layer < facts.vision_layers:
            raise ValueError(
                f"cls_layer={self.cls_layer} does not exist: the encoder has {facts.vision_layers} layers."
            )
        return Need("vision", layer, "class_row")

    def select(self, view: View, need: Need | None = None) -> Selection:
        """Pick greedily among the patches."""
        rows, k = view.patches, candidate_count(view)
        if k >= len(rows):
            return Selection(keep=with_structure(rows, view.role, self.newlines))
        unit = unit_rows(view.features[rows])
        spread = greedy_spread(unit, k, self._first(view, rows, unit, need), self.objective)
        kept = with_structure(rows[spread.order], view.role, self.newlines)
        return Selection(keep=kept, scores=spread_scores(spread, rows, view.n, self.objective))

    def _first(self, view: View, rows: Tensor, unit: Tensor, need: Need | None) -> Tensor:
        if need is not None:
            attention = view.stats[need][rows]
            require_finite(attention, "The [CLS] attentions of the visual tokens")
            allowed = thumbnail_first(view, rows)
            return allowed[attention[allowed].argmax()]
        if self.pivot == "random":
            return torch.randint(len(rows), (), generator=view.generator(self.seed))
        likeness = unit @ unit.sum(0)
        return likeness.argmax() if self.pivot == "center" else likeness.argmin()
