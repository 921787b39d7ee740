"""VFlowOpt: prune thrice by what the globally attended tokens attend to, recycle the rest (arXiv 2508.05211)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.budget import Keep
from ..core.layout import Role
from ..core.merge import group_shares, grouped_mean
from ..core.select import require_finite
from ..core.stage import Decoder, ModelFacts, Need, Projector, Selection, Stage, View
from ._cells import balance, lattice, merge_weights, recycle, weakest
from ._thirds import Ratios, Tuned, solve_first, thirds
from ._vision import whole_image_layers
from .base import Method, check_range

Preset = Literal["llava-onevision-7b-50", "llava-onevision-7b-25", "llava-onevision-7b-10"]
PRESETS: dict[Preset, Tuned] = {
    "llava-onevision-7b-50": Tuned(
        0.5, 28.683047941520474, 0.0, 11.756787150848968, Ratios(0.7233201448753168, 0.748747637472693, 0.487)
    ),
    "llava-onevision-7b-25": Tuned(
        0.25,
        34.759552803070484,
        0.0,
        15.580797034937687,
        Ratios(0.2651026358526424, 0.9833433139039235, 0.8773258179532721),
    ),
    "llava-onevision-7b-10": Tuned(
        0.1, 39.26492840997221, 0.0, 17.386981849158786, Ratios(0.11661529508161146, 1.0, 0.6011)
    ),
}
_LARGEST_CELL = 1_000_000


@dataclass(kw_only=True)
class VFlowOpt(Method):
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
    keep : float or int or None
        Share of each image's tokens, newlines included, or tokens per image: the mean over decoder layers (without
        later cuts: what enters the first). None: the preset's budget, else 0.25.
    preset : {"llava-onevision-7b-50", "llava-onevision-7b-25", "llava-onevision-7b-10"} or None
        Released parameters of ``t``, ``alpha``, ``cell`` and the ratios where those are None. None: untuned, t=5,
        alpha=0, cell=16 on a side of 27, R2=1, R3=0.6.
    t, alpha, cell : float or None
        Overrides of the preset; ``alpha`` may be negative, 0 skips the entropy.
    r1, r2, r3 : float or None
        Ratios, all three or none; ``vtc calibrate`` finds them. They (or the preset's) hold as long as ``keep`` is
        what it was at the start; for another ``keep`` r1 is solved anew.
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
    keep: Keep = None  # type: ignore[assignment]  # a number after __post_init__
    preset: Preset | None = None
    t: float | None = None
    alpha: float | None = None
    cell: float | None = None
    r1: float | None = None
    r2: float | None = None
    r3: float | None = None
    progressive: bool = True
    entropy: Literal["paper", "wrapped"] = "paper"
    recycling: bool = True
    exact_budget: bool = False
    positions: Literal["renumber", "keep"] = "renumber"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        tuned = self._tuned
        if self.keep is None:
            self.keep = tuned.keep if tuned else 0.25
        super().__post_init__()
        if tuned and self.keep != tuned.keep:
            raise ValueError(
                f"preset={self.preset!r} is the budget keep={tuned.keep:g}, and keep={self.keep!r} was "
                "passed. Leave out one of the two, or pass t, alpha and cell instead of the preset."
            )
        check_range(self, "a ratio in (0, 1]", lambda v: 0.0 < v <= 1.0, "r1", "r2", "r3")
        check_range(self, "a number >= 0", lambda v: v >= 0.0, "t")
        check_range(self, f"the side of a cell, in [1, {_LARGEST_CELL:,}]", lambda v: 1.0 <= v <= _LARGEST_CELL, "cell")
        if len({self.r1 is None, self.r2 is None, self.r3 is None}) > 1:
            raise ValueError(f"r1={self.r1}, r2={self.r2}, r3={self.r3}: pass all three ratios or none.")
        self._start = self.keep

    @property
    def _tuned(self) -> Tuned | None:
        return PRESETS[self.preset] if self.preset else None

    def ratios(self, n: int, layers: int) -> Ratios:
        """Ratios for an image of ``n`` tokens on a decoder with ``layers`` layers to cut in (0: none)."""
        share = min(1.0, self.keep / max(1, n)) if isinstance(self.keep, int) else self.keep
        if share == 1.0:
            return Ratios(1.0, 1.0, 1.0)
        tuned = self._tuned.ratios if self._tuned else None
        if self.r1 is not None and self.r2 is not None and self.r3 is not None:
            tuned = Ratios(self.r1, self.r2, self.r3)
        if tuned and self.keep == self._start:
            return tuned
        if layers == 0:
            return Ratios(share, 1.0, 1.0)
        return solve_first(share, tuned.r2 if tuned else 1.0, tuned.r3 if tuned else 0.6, layers)

    def dropped(self, n: int, layers: int = 0) -> int:
        """Tokens d to drop of L = ``n`` before the decoder."""
        if isinstance(self.keep, int) and layers == 0:
            return n - min(self.keep, n)
        return round(n * (1 - self.ratios(n, layers).r1))

    def keep_count(self, n: int, layers: int = 0) -> int:
        """Tokens that enter the decoder; with recycling the real number differs by a few unless ``exact_budget``."""
        return max(1, n - self.dropped(n, layers)) if n > 0 else 0

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
        return self._recycle(view, importance, drop, alpha < 0)

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
