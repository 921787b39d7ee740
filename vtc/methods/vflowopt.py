"""VFlowOpt: prune by what the globally attended tokens attend to, recycle the rest (arXiv 2508.05211)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ..core.budget import Keep
from ..core.layout import Role
from ..core.merge import group_shares, grouped_mean
from ..core.select import require_finite
from ..core.stage import ModelFacts, Need, Projector, Selection, Stage, View
from ._cells import balance, lattice, merge_weights, recycle, weakest
from ._vision import whole_image_layers
from .base import Method, check_choice


class Tuned(NamedTuple):
    """Released parameters of one budget: mean share over layers, t, alpha, cell side, first ratio."""

    keep: float
    t: float
    alpha: float
    cell: float
    ratio: float


PRESETS = {
    "llava-onevision-7b-50": Tuned(0.5, 28.683047941520474, 0.0, 11.756787150848968, 0.7233201448753168),
    "llava-onevision-7b-25": Tuned(0.25, 34.759552803070484, 0.0, 15.580797034937687, 0.2651026358526424),
    "llava-onevision-7b-10": Tuned(0.1, 39.26492840997221, 0.0, 17.386981849158786, 0.11661529508161146),
}


@dataclass(kw_only=True)
class VFlowOpt(Method):
    """Importance from the encoder, pruning after the projector, and recycling of what is pruned.

    The importance of patch i is ``mean_{k in G} A[k, i] + alpha * softmax(entropy)_i`` with the head-averaged
    attention A of the layer that makes the features and the global tokens G, which receive more than ``t``
    times the mean; when there are none, the one that receives most. Of L tokens ``d = round(L * (1 - keep))``
    go. On a tiled or native resolution image ``g = int(L / cell**2)`` more go, and all that went are merged
    inside cells of ``cell`` x ``cell`` tokens: the importance-weighted mean takes the slot of the strongest.
    Images without tiles and videos are pruned without recycling, videos over all their frames together.
    Newline rows count in L and always stay.

    Parameters
    ----------
    keep : float or int or None
        Share of each image's tokens, newlines included, or tokens per image. None: the preset's budget, else
        0.25.
    preset : {"llava-onevision-7b-50", "llava-onevision-7b-25", "llava-onevision-7b-10"} or None
        Released parameters of ``t``, ``alpha``, ``cell`` where those are None. Its first ratio replaces
        ``keep`` as long as ``keep`` is the preset's budget, which is a mean over layers. None: untuned, t=5,
        alpha=0, cell=16 on a side of 27.
    t, alpha, cell : float or None
        Overrides of the preset; ``alpha`` may be negative, 0 skips the entropy.
    entropy : {"paper", "wrapped"}
        Grey levels of the restored 8-bit image, or the code's wrapped ones.
    recycling : bool
        False prunes only.
    exact_budget : bool
        Trim or refill by importance, so that exactly ``L - d`` tokens stay.
    positions : {"renumber", "keep"}
        1-D position ids after pruning: contiguous (the code) or the original ones (the paper). M-RoPE keeps
        them.

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
    keep: Keep = None  # type: ignore[assignment]  # a number after __post_init__
    preset: str | None = None
    t: float | None = None
    alpha: float | None = None
    cell: float | None = None
    entropy: Literal["paper", "wrapped"] = "paper"
    recycling: bool = True
    exact_budget: bool = False
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        check_choice("preset", self.preset, (*PRESETS, None))
        tuned = PRESETS.get(self.preset or "")
        if self.keep is None:
            self.keep = tuned.keep if tuned else 0.25
        super().__post_init__()
        if tuned and self.keep != tuned.keep:
            raise ValueError(
                f"preset={self.preset!r} is the budget keep={tuned.keep:g}, and keep={self.keep!r} was "
                "passed. Leave out one of the two, or pass t, alpha and cell instead of the preset."
            )
        check_choice("entropy", self.entropy, ("paper", "wrapped"))
        check_choice("positions", self.positions, ("renumber", "keep"))
        for name, least in (("t", 0.0), ("alpha", float("-inf")), ("cell", 1.0)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name}={value!r} is no number.")
            if not least <= value < float("inf"):
                raise ValueError(f"{name}={value!r} is not allowed: pass a finite number >= {least:g}.")

    @property
    def _tuned(self) -> Tuned | None:
        return PRESETS.get(self.preset or "")

    def dropped(self, n: int) -> int:
        """Tokens d to drop of L = ``n``."""
        if isinstance(self.keep, int):
            return n - min(self.keep, n)
        tuned = self._tuned
        ratio = tuned.ratio if tuned and self.keep == tuned.keep else self.keep
        return round(n * (1 - ratio))

    def keep_count(self, n: int) -> int:
        """Tokens kept of ``n``; with recycling the real number differs by a few unless ``exact_budget``."""
        return max(1, n - self.dropped(n)) if n > 0 else 0

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector; it reads the layer that makes the features, and maybe pixels."""
        tuned = self._tuned or Tuned(0.25, 5.0, 0.0, 16.0, 0.25)
        layer = whole_image_layers(facts, self.name)[-1]
        alpha = tuned.alpha if self.alpha is None else self.alpha
        needs = [Need("vision", layer, "focus", tuned.t if self.t is None else self.t)]
        if alpha:
            needs.append(Need("vision", 0, "entropy", self.entropy))
        return [
            Stage(
                at=Projector(),
                select=lambda view: self.select(view, tuple(needs), alpha, facts.multimodal_rope),
                keep_count=self.keep_count,
                needs=tuple(needs),
                positions=self.positions,
            )
        ]

    def select(self, view: View, needs: tuple[Need, ...], alpha: float = 0.0, native: bool = False) -> Selection:
        """Prune by importance and recycle on images with tiles or of native resolution."""
        importance = view.stats[needs[0]]
        if alpha:
            importance = importance + alpha * view.stats[needs[1]]
        newline = view.role != Role.PATCH
        importance = torch.where(newline, 1.0, importance)
        require_finite(importance, "The importances of the visual tokens")
        drop = min(self.dropped(view.n), len(view.patches) - 1)
        if drop <= 0:
            return Selection(torch.arange(view.n, device=importance.device), scores=importance)
        tiled = int(view.part.max()) > 0
        if not self.recycling or view.modality == "video" or not (tiled or native):
            return self._prune(view, importance, drop)
        return self._recycle(view, importance, drop, alpha < 0)

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

    def _recycle(self, view: View, importance: Tensor, drop: int, signed: bool) -> Selection:
        side = self.cell_side(view)
        low = weakest(importance, view.patches, drop + int(view.n / side**2))
        slots, cell = recycle(importance, lattice(view), low, side)
        target = torch.arange(view.n, device=low.device)
        target[low] = slots[cell]
        if self.exact_budget:
            target = balance(importance, target, low, view.n - drop)
        weights = torch.ones(view.n, dtype=importance.dtype, device=low.device)
        weights[low] = merge_weights(importance[low], cell, len(slots), signed)
        keep = (target == torch.arange(view.n, device=low.device)).nonzero(as_tuple=True)[0]
        groups = torch.where(target >= 0, torch.searchsorted(keep, target.clamp_min(0)), -1)
        values = grouped_mean(view.features, groups, weights, len(keep))
        return Selection(keep, values, importance, groups, group_shares(groups, weights, len(keep)))
