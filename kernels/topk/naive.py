"""Plain torch of :func:`vtc.kernels.topk_select`: a stable sort of whole rows."""

from __future__ import annotations

import torch
from torch import Tensor

from .._ragged import accumulator


def topk_torch(scores: Tensor, count: Tensor | None, valid: Tensor | None, width: int) -> Tensor:
    """Kept columns [B, width], -1 after the last.

    ``count`` int32 [B] (None: ``width`` in every row) is at most ``valid`` int32 [B] (None: all columns) and ``width``.
    """
    columns, keys = scores.shape[1], scores.to(accumulator(scores))
    column = torch.arange(columns, device=scores.device)
    hidden = keys.isnan() if valid is None else keys.isnan() | (column >= valid[:, None])
    # stable: invalid columns lie right of the valid ones, so they also lose against a valid -inf
    order = keys.masked_fill(hidden, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :width]
    if count is None:
        return order.sort(dim=1).values
    chosen = torch.where(column[:width] < count[:, None], order, columns).sort(dim=1).values
    return torch.where(chosen < columns, chosen, -1)
