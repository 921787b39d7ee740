"""SCOPE: tokens that together cover all tokens of an image, the salient ones first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.coverage import Cosines, greedy_cover
from ..core.diversity import unit_rows
from ..core.select import require_finite, with_structure
from ..core.stage import ModelFacts, Need, Selection, View
from ._cen import candidate_sets
from ._vision import attention_stat, whole_image_layers
from .base import check_range
from .scorer import BeforeLLM


@dataclass(kw_only=True)
class SCOPE(BeforeLLM):
    """Saliency-weighted coverage: greedy facility location over cosines.

    With the cosines S of the tokens of one crop and their saliency a, the attention of [CLS] in the layer that
    makes the features (what a patch receives, where there is no [CLS])::

        m = 0;  repeat K times:
            gain_i  = sum_j max(0, S_ji - m_j)              what token i adds to the cover
            score_i = gain_i * a_i^alpha                    (or gain_i + a_i^alpha)
            pick the largest,  m <- max(m, S[:, pick])
        keep the picks in their original order

    The question is not read, nothing is merged.

    Parameters
    ----------
    keep : float or int
        Share of every crop's patches, or tokens per image, split evenly over its crops and frames.
    alpha : float
        Exponent of the saliency; 0 is coverage alone, which reads no attention.
    combine : {"multi", "add"}
        Product or sum; a sum compares numbers of different scale and is there for comparison.
    joint : bool
        One set of all crops of an image and frames of a video, instead of one for each.

    Notes
    -----
    Source: arXiv 2510.24214 and its code, which takes the encoder's features before the projector; here the projected
    ones, which every family has. Differences: any batch and family; a zero row has cosine 0 instead of NaN; budgets are
    exact; gains are kept up to date instead of being summed anew at every pick, with the same picks; gains in double
    precision, ties to the lower index.
    """

    name: ClassVar[str] = "scope"
    summary: ClassVar[str] = "coverage of all tokens, weighted by saliency (baseline)"
    paper: ClassVar[str] = "2510.24214"
    alpha: float = 1.0
    combine: Literal["multi", "add"] = "multi"
    joint: bool = False
    scope: Literal["image", "row"] = "image"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "an exponent >= 0", lambda v: v >= 0.0, "alpha")

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of the layer that makes the features, if it counts."""
        if self.alpha == 0:
            return ()
        return (Need("vision", whole_image_layers(facts, self.name)[-1], attention_stat(facts)),)

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Cover every crop."""
        if view.patch_budget >= len(view.patches):
            return Selection(with_structure(view.patches, view.role, self.newlines))
        weight = self._weights(view, *stats)
        scores, picks = weight.float().clone(), []
        for rows, k in candidate_sets(view, self.joint, self.keep):
            if k:
                order = rows[self.cover(view.features[rows], weight[rows], k)]
                scores[order] = scores[rows].max() + 1 - torch.arange(k, device=scores.device) / k
                picks.append(order)
        return Selection(with_structure(torch.cat(picks), view.role, self.newlines), scores=scores)

    def _weights(self, view: View, *stats: Tensor) -> Tensor:
        """Saliency to the power of alpha [N], NaN for rows that are no patches."""
        weight = torch.full((view.n,), torch.nan, dtype=torch.float64, device=view.features.device)
        saliency = stats[0][view.patches] if stats else torch.ones(len(view.patches))
        require_finite(saliency, "The attentions of the visual tokens")
        weight[view.patches] = saliency.to(weight) ** self.alpha
        return weight

    def cover(self, features: Tensor, weight: Tensor, k: int) -> Tensor:
        """Order [k] in which tokens [N, D] are picked."""
        product = self.combine == "multi"
        score = lambda gain, covered, free: gain * weight if product else gain + weight  # noqa: E731
        return greedy_cover(Cosines(unit_rows(features)), k, score).order
