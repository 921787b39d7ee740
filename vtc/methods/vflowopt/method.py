"""VFlowOpt: prune thrice by what the globally attended tokens attend to, recycle the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...core.layout import Role
from ...core.select import require_finite
from ...core.stage import Decoder, ModelFacts, Need, Projector, Selection, Stage, View
from .._vision import whole_image_layers
from ..base import check_range
from .ratios import Ratios, ThreeRatios, Tuned, thirds
from .recycling import merge_cells, weakest

_LARGEST_CELL = 1_000_000


@dataclass(kw_only=True)
class VFlowOpt(ThreeRatios):
    """Importance from the encoder, pruning after the projector and twice more between decoder layers, and recycling.

    The importance of patch i is ``mean_{k in G} A[k, i] + alpha * softmax(entropy)_i`` with the head-averaged
    attention A of the layer that makes the features and the global tokens G, which receive more than ``t``
    times the mean; when there are none, the one that receives most. Of L tokens ``d = round(L * (1 - R1))``
    go. On a tiled or native resolution image ``g = int(L / cell**2)`` more go, and all that went are merged
    inside cells of ``cell`` x ``cell`` tokens: the importance-weighted mean takes the slot of the strongest.
    Images without tiles and videos are pruned without recycling, videos over all their frames together.
    Newline rows count in L and always stay.

    Before decoder layers ``T // 3`` and ``2 * (T // 3)`` of T, ``round(n * (1 - R))`` of the n tokens left go with R2
    and R3, the least important by the same static map; nothing is recycled there and no decoder attention is read. A
    recycled token has the importance of its slot, so those go first. The budget is
    ``(R1 * L1 + R1 * R2 * L2 + R1 * R2 * R3 * L3) / T``.

    Parameters
    ----------
    t, alpha, cell : float or None
        Overrides of the preset; ``alpha`` may be negative, 0 skips the entropy.
    progressive : bool
        False: no cuts between decoder layers, R1 = keep. So on decoders with linear attention or fewer than 3 layers.
    entropy : {"paper", "wrapped"}
        Grey levels of the restored 8-bit image, or the code's wrapped ones.
    recycling : bool
        False prunes only.
    exact_budget : bool
        Trim or refill by importance, so that exactly ``L - d`` tokens stay.
    positions : {"renumber", "keep"}
        1-D position ids after the first pruning: contiguous (the code) or the original ones (the paper). M-RoPE keeps
        them, and so do the later cuts.

    Notes
    -----
    Source: arXiv 2508.05211 and its published code. Where they differ, the mean over G is the
    code's (the paper sums) and the grey levels are the paper's. Decided here: the rule for an empty G (the
    code yields NaN and keeps the whole tile), newline rows are no candidates, ties, plain means where weights
    vanish, weights above the cell's minimum for negative ``alpha``, nothing is recycled when ``keep=1``. With
    recycling the number of kept tokens depends on where the dropped ones lie: ``keep_count`` is exact only
    with ``exact_budget`` or without tiles.
    """

    name: ClassVar[str] = "vflowopt"
    summary: ClassVar[str] = "what globally attended patches attend to; pruned tokens are recycled by cell"
    paper: ClassVar[str] = "2508.05211"
    t: float | None = None
    alpha: float | None = None
    cell: float | None = None
    progressive: bool = True
    entropy: Literal["paper", "wrapped"] = "paper"
    recycling: bool = True
    exact_budget: bool = False
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number >= 0", lambda v: v >= 0.0, "t")
        check_range(self, f"the side of a cell, in [1, {_LARGEST_CELL:,}]", lambda v: 1.0 <= v <= _LARGEST_CELL, "cell")

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector and two cuts; all read the layer that makes the features, and maybe pixels."""
        tuned = self._tuned or Tuned(0.25, 5.0, 0.0, 16.0, Ratios(0.25, 1.0, 1.0))
        layer = whole_image_layers(facts, self.name)[-1]
        alpha = tuned.alpha if self.alpha is None else self.alpha
        needs: tuple[Need, ...] = (Need("vision", layer, "focus", tuned.t if self.t is None else self.t),)
        if alpha:
            needs += (Need("vision", 0, "entropy", self.entropy),)
        depth = facts.decoder_layers
        third = thirds(depth)[0]
        usable = self.progressive and third > 0 and not any(i >= third for i in facts.linear_layers)
        depth = depth if usable else 0
        count = partial(self.keep_count, layers=depth)
        select = partial(self.select, needs=needs, alpha=alpha, native=facts.native_resolution, layers=depth)
        stages = [Stage(Projector(), select, count, needs, positions=self.positions)]
        for number in (1, 2) if usable else ():
            thin = partial(self.thin, needs=needs, alpha=alpha, number=number, layers=depth)
            stages.append(Stage(Decoder(number * third), thin, count, needs))
        return stages

    def importance(self, view: View, needs: tuple[Need, ...], alpha: float) -> Tensor:
        """Static map [N]: 1 for newlines, which is more than any patch has."""
        importance = view.stats[needs[0]]
        if alpha:
            importance = importance + alpha * view.stats[needs[1]]
        importance = torch.where(view.role != Role.PATCH, 1.0, importance)
        require_finite(importance, "The importances of the visual tokens")
        return importance

    def select(
        self, view: View, needs: tuple[Need, ...], alpha: float = 0.0, native: bool = False, layers: int = 0
    ) -> Selection:
        """Prune by importance and recycle on images with tiles or of native resolution."""
        importance = self.importance(view, needs, alpha)
        drop = min(self.dropped(view.n, layers), len(view.patches) - 1)
        if drop <= 0:
            return Selection(torch.arange(view.n, device=importance.device), scores=importance)
        tiled = int(view.part.max()) > 0
        if not self.recycling or view.modality == "video" or not (tiled or native):
            return self._prune(view, importance, drop)
        return merge_cells(view, importance, drop, self.cell_side(view), alpha < 0, self.exact_budget)

    def thin(self, view: View, needs: tuple[Need, ...], alpha: float, number: int, layers: int) -> Selection:
        """Prune once more by the same map: cut ``number`` is 1 or 2."""
        importance = self.importance(view, needs, alpha)
        ratio = self.ratios(view.total, layers)[number]
        drop = min(round(view.n * (1 - ratio)), view.n - 1, len(view.patches))
        return self._prune(view, importance, drop)

    def _prune(self, view: View, importance: Tensor, drop: int) -> Selection:
        kept = torch.ones(view.n, dtype=torch.bool, device=importance.device)
        kept[weakest(importance, view.patches, drop)] = False
        return Selection(kept.nonzero(as_tuple=True)[0], scores=importance)

    def cell_side(self, view: View) -> float:
        """Side of a recycling cell: as given or tuned, else 16 on a base grid of 27 and in proportion."""
        if self.cell is not None:
            return float(self.cell)
        if self._tuned:
            return self._tuned.cell
        grids = view.units[0].filled().part_grids
        return max(1.0, 16.0 * max(grids[0]) / 27.0)
