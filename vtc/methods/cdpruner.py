"""CDPruner: the subset of tokens that is most relevant to the question and most diverse at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.diversity import unit_rows
from ..core.dpp import greedy_map
from ..core.select import with_structure
from ..core.stage import Selection, View
from ._cen import Cosines, candidate_sets
from .base import check_range
from .scorer import BeforeLLM

MARGIN = 1e-6


def contrast(relevance: Tensor) -> Tensor:
    """Bring a relevance [N] from its least to its most, in fp32; all ones where it does not differ."""
    low, high = relevance.min(), relevance.max()
    return torch.where(high - low < 1e-12, 1.0, (relevance - low) / (high - low + MARGIN))


def mean_unlikeness(rows: Tensor, text: Tensor) -> Tensor:
    """Negative mean cosine of each row [N, D] to the rows of a text [M, D]: fp32 [N]."""
    return -(unit_rows(rows) @ unit_rows(text).mean(0))


@dataclass(kw_only=True)
class CDPruner(Cosines, BeforeLLM):
    """Conditional diversity: the K tokens whose kernel has the largest determinant, found greedily.

    With projected tokens X, unit rows x, and a relevance r of each token to the question::

        s_i  = - mean_m cos(X_i, t_m)                  t_m: embeddings of the question's tokens
        r_i  = (s_i - min s) / (max s - min s + 1e-6)  over the image
        L_ij = r_i (x_i . x_j) r_j
        keep   the K-subset with the largest det L that greedy MAP of the determinantal point process finds

    Each pick is the token with the longest rest after the earlier picks are projected out, so tokens are relevant
    (long) and unlike each other (orthogonal). The minus sign is the published one: patch rows of CLIP point away
    from the text of what they show, and on embeddings of language models the plus sign does no better than chance.

    Parameters
    ----------
    keep : float or int
        Share of each image's patches, or tokens per image; every crop and frame has its share.
    relevance : {"embeddings", "none"}
        Cosines to the input embeddings of the text behind the last image, or none: diversity alone, which is the better
        choice for documents. A prompt without such text has no relevance.
    theta : float
        Strength of the relevance in [0, 1]: 1 multiplies by r, below that by ``exp(r theta / (2 (1 - theta)))``; 0 is
        none.
    joint : bool
        One set of all crops of an image and frames of a video, instead of one for each.

    Notes
    -----
    Source: arXiv 2506.10967 and its code, which rates patches by the text tower of the CLIP model that LLaVA's
    encoder comes from; that tower is in no checkpoint of a VLM, so the embeddings of the language model are used,
    as published ports do. Differences: the extremes of s are those of one image, where the code takes those of the
    whole call and one image changes another; when K exceeds the rank, the rest of largest r fills up, where the
    code divides by zero and keeps fewer; r = 1 where s is constant; rows of L as they are needed instead of N x N;
    fp32, ties to the lower index.
    """

    name: ClassVar[str] = "cdpruner"
    summary: ClassVar[str] = "relevance to the question and diversity by a determinantal point process (baseline)"
    paper: ClassVar[str] = "2506.10967"
    needs_text: ClassVar[bool | Literal["question"]] = "question"
    relevance: Literal["embeddings", "none"] = "embeddings"
    theta: float = 1.0
    joint: bool = False
    scope: Literal["image", "row"] = "image"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a strength in [0, 1]", lambda v: 0.0 <= v <= 1.0, "theta")

    def rate(self, view: View) -> Tensor:
        """Relevance [P] of the patches of a view, in [0, 1]."""
        rows = view.features[view.patches]
        if self.relevance == "none" or self.theta == 0 or view.text is None or not len(view.text):
            return torch.ones(len(rows), device=rows.device)
        rated = contrast(mean_unlikeness(rows, view.text))
        return rated if self.theta == 1 else (rated * self.theta / (2 * (1 - self.theta))).exp()

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Pick greedily in every crop."""
        if view.patch_budget >= len(view.patches):
            return Selection(with_structure(view.patches, view.role, self.newlines))
        rated = torch.full((view.n,), torch.nan, device=view.features.device)
        rated[view.patches] = self.rate(view).to(rated)
        scores, picks = rated.clone(), []
        for rows, k in candidate_sets(view, self.joint, self.keep):
            if not k:
                continue
            unit, weight = self.directions(view.features[rows]), self.weights(view.features[rows])
            length = rated[rows] if weight is None else rated[rows] * weight.to(rated)
            order = rows[greedy_map(unit, length, k).order]
            scores[order] = 2 - torch.arange(k, device=scores.device, dtype=scores.dtype) / k
            picks.append(order)
        return Selection(with_structure(torch.cat(picks), view.role, self.newlines), scores=scores)
