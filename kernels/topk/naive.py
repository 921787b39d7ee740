"""Plain torch of :func:`vtc.kernels.topk_select`: a stable sort of whole rows."""

from __future__ import annotations

import torch
from torch import Tensor

from .._ragged import accumulator


def topk_torch(scores: Tensor, count: Tensor, valid: Tensor, width: int) -> Tensor:
    """Kept columns [B, width], -1 after the last; ``count`` int32 [B] is at most ``valid`` int32 [B] and ``width``."""
    columns = scores.shape[1]
    column = torch.arange(columns, device=scores.device)
    keys = scores.to(accumulator(scores))
    keys = keys.masked_fill(keys.isnan() | (column >= valid[:, None]), -torch.inf)
    # stable: invalid columns lie right of the valid ones, so they also lose against a valid -inf
    order = keys.sort(dim=1, descending=True, stable=True).indices[:, :width]
    chosen = torch.where(column[:width] < count[:, None], order, columns).sort(dim=1).values
    return torch.where(chosen < columns, chosen, -1)
