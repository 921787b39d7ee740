"""VisPruner: half of the tokens by attention, the other half by dropping near duplicates of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.diversity import unit_rows
from ..core.select import require_finite, with_structure
from ..core.stage import ModelFacts, Need, Selection, View
from ._cen import candidate_sets
from ._vision import attention_stat, whole_image_layers
from .base import check_range
from .scorer import BeforeLLM

LONG = 4096
"""Longer sets drop a share of what is left in each round, so that the number of rounds stays bounded."""


def thin_out(unit: Tensor, count: int, step: int) -> Tensor:
    """Positions [count] of unit rows [R, D] that are left when near duplicates go, ``step`` in a round.

    Every second row faces the others; those most like one of them go. Survivors come back by falling likeness,
    followed by the others, which decides who faces whom next.
    """
    rest = torch.arange(len(unit) if count else 0, device=unit.device)
    while len(rest) > count:
        ours, theirs = rest[0::2], rest[1::2]
        if not len(theirs):
            break
        drops = min(step if len(rest) <= LONG else max(step, len(rest) // 64), len(rest) - count, len(rest) // 2)
        likeness = torch.cat([(unit[rows] @ unit[theirs].T).amax(1) for rows in ours.split(1024)])
        order = likeness.sort(descending=True, stable=True).indices
        rest = torch.cat([ours[order[drops:]], theirs])
    return rest


@dataclass(kw_only=True)
class VisPruner(BeforeLLM):
    """Important tokens by attention, diverse ones by removing duplicates.

    With K tokens of the N of one crop and the attention a of [CLS] (or what a patch receives) in the feature layer::

        important = the int(K r) largest a;   R = the others by falling a
        while |R| > K - |important|:
            A, B = R[0::2], R[1::2];   sim_i = max_j cos(A_i, B_j)
            drop the (at most) 8 of A with the largest sim;   R = [rest of A by falling sim, B]
        keep = important and R, in their original order

    The question is not read, nothing is merged.

    Parameters
    ----------
    keep : float or int
        Share of every crop's patches, or tokens per image, split evenly over its crops and frames.
    important : float
        r, the share of the budget that goes by attention, in [0, 1]. One token alone goes by attention in any case.
    step : int
        Tokens dropped in a round.
    joint : bool
        One set of all crops of an image and frames of a video, instead of one for each.

    Notes
    -----
    Source: arXiv 2412.01818 and its code, which compares the encoder's features; here the projected ones, which
    every family has. Differences: the code fails where an odd number of tokens is left; sets of more than 4,096 drop
    a 64th of what is left in a round; ties to the one of more attention.
    """

    name: ClassVar[str] = "vispruner"
    summary: ClassVar[str] = "half by attention, half by removing near duplicates (baseline)"
    paper: ClassVar[str] = "2412.01818"
    important: float = 0.5
    step: int = 8
    joint: bool = False

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a share of the budget, in [0, 1]", lambda v: 0.0 <= v <= 1.0, "important")
        check_range(self, "a number of tokens >= 1", lambda v: v >= 1, "step")

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of the layer that makes the features."""
        return (Need("vision", whole_image_layers(facts, self.name)[-1], attention_stat(facts)),)

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Split the budget of every crop between importance and diversity."""
        scores = stats[0]
        if view.patch_budget >= len(view.patches):
            return Selection(with_structure(view.patches, view.role, self.newlines), scores=scores)
        require_finite(scores[view.patches], "The attentions of the visual tokens")
        picks = []
        for rows, k in candidate_sets(view, self.joint, self.keep):
            order = rows[scores[rows].sort(descending=True, stable=True).indices]
            first = max(int(k * self.important), int(k == 1))
            unit = unit_rows(view.features[order[first:]])
            picks += [order[:first], order[first:][thin_out(unit, k - first, self.step)]]
        return Selection(with_structure(torch.cat(picks), view.role, self.newlines), scores=scores)
