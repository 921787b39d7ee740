"""HiRED: share one budget between a full image and its tiles by attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ...core.layout import Role
from ...core.select import part_budgets, parts_of, topk_indices, with_structure
from ...core.stage import ModelFacts, Need, Selection, View
from .._vision import attention_stat, whole_image_layers
from ..base import check_range
from ..scorer import BeforeLLM
from .tiles import Content, Region, split_budget, tile_budgets, tile_content, tile_of


@dataclass(kw_only=True)
class HiRED(BeforeLLM):
    """Budget over full image and tiles from early attention, tokens inside each from late attention.

    With P partitions (0 = full image) of N tokens each, ``T = int(P * N * keep)`` is an upper bound of what
    stays. ``B_0 = min(int(T * alpha), N)`` goes to the full image; the rest is split over the tiles in
    proportion to the content of their region in the full image's attention of the first layer. Every
    partition then keeps its ``B_p`` tokens with the most attention of the layer that makes the features. An
    image without tiles keeps ``int(N * keep)``. Nothing is merged, the question is not read.

    Parameters
    ----------
    keep : float or int
        Share (the paper's rate) of all tokens of all partitions, or T itself as tokens per image. Tokens that
        unpadding removes count in T and may be picked, so fewer than T can stay; at least 1 per image does.
        ``keep=1.0``, or a count no smaller than the image, changes nothing.
    preset : {"paper", "official"}
        Sets ``content`` and ``region`` where they are None: "mass" and "spatial", or "count" and "raster".
        "official" also computes the shares in fp32 as the code does.
    alpha : float
        Share of the budget for the full image, in [0, 1].
    content : {"mass", "count"} or None
        Attention mass of a tile's region, or how many of the ``int(N * (1 - alpha))`` strongest tokens lie in
        it.
    region : {"spatial", "raster"} or None
        The tile's place in the image, or horizontal bands whatever the grid.
    leftover : {"drop", "largest_remainder"}
        What happens to tokens the floors and full tiles leave over.
    mask_padding : bool
        Do not pick tokens that unpadding removes.

    Notes
    -----
    Source: arXiv 2408.10945 version 3 and its code (hasanar1f/HiRED). The two differ in the
    content of a tile; the default is the paper's Equation 1. Differences: correct geometry on non-square
    grids, masks per image, a true no-op at ``keep=1``, at least one token per image, content 0 everywhere
    splits evenly, ties to the lower index, fp32 attention. Encoders without [CLS] use mean received attention
    of layers that see the whole image. Every frame of a video is an image without tiles. How many tokens stay
    is known only after unpadding: ``keep_count`` is a bound.
    """

    name: ClassVar[str] = "hired"
    summary: ClassVar[str] = "token budget over full image and tiles by attention, for anyres models"
    paper: ClassVar[str] = "2408.10945"
    preset: Literal["paper", "official"] = "paper"
    alpha: float = 0.5
    content: Content | None = None
    region: Region | None = None
    leftover: Literal["drop", "largest_remainder"] = "drop"
    mask_padding: bool = False

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "the full image's share of the budget, in [0, 1]", lambda v: 0.0 <= v <= 1.0, "alpha")

    def keep_count(self, n: int) -> int:
        """Upper bound of the tokens kept of an image with ``n`` tokens (exact for one partition)."""
        return min(n, max(1, self.total(n))) if n > 0 else 0

    def total(self, n: int) -> int:
        """T of ``n`` possible tokens: truncated, as the published code does."""
        return min(self.keep, n) if isinstance(self.keep, int) else int(n * self.keep)

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of the first layer and of the one that makes the features, which may be the same."""
        layers, stat = whole_image_layers(facts, self.name), attention_stat(facts)
        return tuple(Need("vision", layer, stat) for layer in dict.fromkeys((layers[0], layers[-1])))

    def decide(self, view: View, needs: tuple[Need, ...]) -> Selection:
        """Split the budget over the partitions, then keep the strongest tokens of each."""
        first, last = needs[0], needs[-1]
        scores, groups = view.stats[last], parts_of(view.part, view.role)
        if self.keep >= len(view.patches) if isinstance(self.keep, int) else self.keep == 1.0:
            return Selection(torch.arange(view.n, device=scores.device), scores=scores)
        tiled = view.modality == "image" and len(groups) > 1
        kept = self._tiled(view, first, last) if tiled else self._single(scores, groups)
        if not len(kept):
            kept = groups[0][scores[groups[0]].argmax()].reshape(1)
        return Selection(with_structure(kept, view.role, self.newlines), scores=scores)

    def _single(self, scores: Tensor, groups: list[Tensor]) -> Tensor:
        sizes = [len(g) for g in groups]
        budgets = part_budgets(self.keep, sizes) if isinstance(self.keep, int) else [self.total(n) for n in sizes]
        return torch.cat([g[topk_indices(scores[g], k)] for g, k in zip(groups, budgets, strict=True)])

    def _tiled(self, view: View, first: Need, last: Need) -> Tensor:
        raw = view.units[0].info.get("part_stats", {})
        parts = len(raw[last]) if last in raw else int(view.part.max()) + 1
        rows = [((view.part == p) & (view.role == Role.PATCH)).nonzero(as_tuple=True)[0] for p in range(parts)]
        base = raw[first][0] if first in raw else view.stats[first][rows[0]]
        whole = raw[last] if last in raw else [view.stats[last][r] for r in rows]
        kept = []
        for p, budget in enumerate(self.budgets(view, base, [len(s) for s in whole])):
            if last in raw and not self.mask_padding:
                chosen = topk_indices(whole[p].to(rows[p].device), budget)
                kept.append(rows[p][torch.isin(view.cell[rows[p]], chosen)])
            else:
                kept.append(rows[p][topk_indices(view.stats[last][rows[p]], budget)])
        return torch.cat(kept)

    def budgets(self, view: View, base: Tensor, sizes: list[int]) -> list[int]:
        """Tokens per partition, from the first layer's attention ``base`` [N_0] of the full image."""
        unit, tiles = view.units[0].filled(), len(sizes) - 1
        official = self.preset == "official"
        region: Region = self.region or ("raster" if official else "spatial")
        content: Content = self.content or ("count" if official else "mass")
        grid = unit.info.get("tile_grid", (tiles, 1) if region == "raster" else None)
        if grid is None or grid[0] * grid[1] != tiles:
            raise ValueError(
                f"hired with region={region!r} needs the grid of the {tiles} tiles and got {grid}; pass "
                "region='raster' or use an adapter that fills Unit.info['tile_grid'] = (rows, columns)."
            )
        full, rest = split_budget(self.total(sum(sizes)), self.alpha, sizes)
        tile = tile_of(*unit.part_grids[0], grid, region)
        strength = tile_content(base, tile, tiles, content, int(len(base) * (1 - self.alpha)))
        return [full, *tile_budgets(rest, strength, sizes[1:], self.leftover, official)]
