"""What a stage has decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Selection:
    """A stage's decision.

    Parameters
    ----------
    keep : LongTensor [K]
        Kept tokens, strictly increasing.
    values : Tensor [K, D] or None
        Rows that replace the kept ones (merging); None leaves them as they are.
    scores : Tensor [N] or None
        What the choice was based on, larger is kept, for pictures and reports.
    groups : LongTensor [N] or None
        For merging: position in ``keep`` each token went to, -1 = dropped.
    weights : Tensor [N] or None
        Weight of each token inside its merge group (sums to 1 per group); lets the engine merge extra rows alike.
    remap : callable or None
        Does to further rows of the same tokens (deepstack) what was done to the features: ``[N, E]`` to ``[K, E]``.
    """

    keep: Tensor
    values: Tensor | None = None
    scores: Tensor | None = None
    groups: Tensor | None = None
    weights: Tensor | None = None
    remap: Callable[[Tensor], Tensor] | None = None

    def merging(self) -> Callable[[Tensor], Tensor] | None:
        """What was done to the features, for further rows of the same tokens: ``[N, E]`` to ``[K, E]``; None: nothing.

        ``remap`` says it; without one, every kept row is the mean of its group by ``weights``.
        """
        if self.remap is not None or self.values is None or self.groups is None:
            return self.remap
        groups, weights = self.groups, self.weights
        if weights is None:
            inside = groups.clamp_min(0)
            size = torch.zeros(len(self.keep), device=groups.device).index_add(0, inside, (groups >= 0).float())
            weights = (groups >= 0) / size.clamp_min(1)[inside]

        def merge(rows: Tensor) -> Tensor:
            member = groups.to(rows.device) >= 0
            share = weights.to(rows.device, torch.promote_types(rows.dtype, torch.float32))[member, None]
            out = torch.zeros(len(self.keep), rows.shape[1], dtype=share.dtype, device=rows.device)
            return out.index_add(0, groups.to(rows.device)[member], rows[member].to(share.dtype) * share).to(rows.dtype)

        return merge
