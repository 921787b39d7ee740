"""VisionZip: dominant tokens by attention, the rest merged into a few contextual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.diversity import unit_rows
from ..core.merge import assign_nearest
from ..core.select import part_budgets, parts_of, topk_indices, with_structure
from ..core.stage import ModelFacts, Need, Selection, View
from ._merging import merge_into
from ._vision import attention_stat, whole_image_layers
from .base import check_range
from .scorer import BeforeLLM


def zip_part(features: Tensor, scores: Tensor, budget: int, contextual: float) -> tuple[Tensor, Tensor]:
    """Dominant and contextual tokens of one partition.

    Parameters
    ----------
    features : Tensor [N, D]
    scores : Tensor [N]
    budget : int
        K; 0 drops everything.
    contextual : float
        Share of the budget that goes to merged tokens.

    Returns
    -------
    kept : LongTensor [K], ascending
    slot : LongTensor [N]
        Token each one is merged into (itself for kept ones), -1 = dropped.
    """
    n, device = len(scores), scores.device
    slot = torch.full((n,), -1, dtype=torch.long, device=device)
    merged = 0 if budget >= n else round(budget * contextual)
    dominant = topk_indices(scores, min(budget, n) - merged)
    slot[dominant] = dominant
    if merged:
        rest = (slot < 0).nonzero(as_tuple=True)[0]
        targets = rest[torch.arange(merged, device=device) * len(rest) // merged]
        unit = unit_rows(features)
        slot[rest] = targets[assign_nearest(unit[rest], unit[targets])]
        slot[targets] = targets
    own = torch.arange(n, device=device)
    return (slot == own).nonzero(as_tuple=True)[0], slot


@dataclass(kw_only=True)
class VisionZip(BeforeLLM):
    """Dominant tokens by attention plus contextual ones, into which the others are merged.

    For the N patches of one partition (image, tile, frame) and a budget K::

        C        = round(K * contextual)       contextual tokens, 10 of 64 by default
        D        = K - C                       dominant tokens, 54 of 64
        s_j      = mean_h A[h, CLS, j]         last-but-one encoder layer, the one that makes LLaVA's features
        dominant = the D largest s_j
        R        = the other N - D tokens in raster order
        targets  t_i = R[floor(i * |R| / C)]   i = 0 .. C - 1, uniformly spaced
        every other token of R joins the target with the largest cosine
        contextual token i = mean of target i and the tokens that joined it

    The paper's settings 54 + 10 = 64, 108 + 20 = 128 and 162 + 30 = 192 have this ratio. Encoders without [CLS]
    rank by the attention a patch receives, mean over heads and queries, which is the paper's own rule for them.

    Parameters
    ----------
    keep : float or int
        Share of every tile, or tokens per image (split evenly over its tiles, remainder to the first).
    contextual : float
        Share of the budget for merged tokens, in [0, 1); 10/64 gives the paper's 54 + 10, 108 + 20 and 162 +
        30.

    Notes
    -----
    Source: arXiv 2412.04467. Differences from the published code:

    * Cosines between the projected features, where the code compares the attention keys (head mean) of that
      layer, and merging after the projector, where the code merges encoder features before it: the mean of
      projections instead of the projection of a mean. One rule then fits every architecture.
    * A contextual token is the mean of its whole group, as the paper's text says. The code adds the mean of the
      joined tokens to the target, which doubles the length of the row.
    * Merged rows stay in the slot of their target, in raster order; the code appends them after the dominant
      ones.
    * Targets span all of R; the code steps by ``floor(|R| / C)`` and leaves out the tail.
    * [CLS] itself is not kept. Tiles and frames are zipped each for itself, with the budget shared between them.
    * Ties go to the lower index; fp32 throughout.
    """

    name: ClassVar[str] = "visionzip"
    summary: ClassVar[str] = "dominant tokens by attention, the rest merged into contextual ones (baseline)"
    paper: ClassVar[str] = "2412.04467"
    contextual: float = 10 / 64

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        allowed = "the share of the budget for merged tokens, in [0, 1), for example 10/64"
        check_range(self, allowed, lambda v: 0.0 <= v < 1.0, "contextual")

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of the layer that makes the features."""
        return (Need("vision", whole_image_layers(facts, self.name)[-1], attention_stat(facts)),)

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Zip every tile or frame."""
        scores = stats[0]
        slot = torch.full((view.n,), -1, dtype=torch.long, device=view.features.device)
        groups = parts_of(view.part, view.role)
        kept = []
        for rows, budget in zip(groups, part_budgets(self.keep, [len(g) for g in groups]), strict=True):
            own, target = zip_part(view.features[rows], scores[rows], budget, self.contextual)
            slot[rows] = torch.where(target >= 0, rows[target.clamp_min(0)], -1)
            kept.append(rows[own])
        keep = with_structure(torch.cat(kept), view.role, self.newlines)
        if len(keep) == view.n:
            return Selection(keep, scores=scores)
        slot[keep] = torch.where(slot[keep] < 0, keep, slot[keep])
        return merge_into(view.features, keep, slot, scores)
