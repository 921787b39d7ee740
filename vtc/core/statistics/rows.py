"""Attention that chosen queries pay: the row of [CLS], and means over the rows of a prompt."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from .attention import AttentionCall, column_sums, measure


def class_row(call: AttentionCall) -> Tensor:
    """Attention of query 0 to all later keys, mean over heads: ``[B, K - 1]``. The softmax includes key 0.

    Raises
    ------
    ValueError
        Several images are packed along the tokens: each has a class token of its own.
    """
    if call.segments is not None and len(call.segments) > 1:
        raise ValueError(
            f"The attention of [CLS] was asked of {len(call.segments)} images packed into one row, which have one "
            "each. Load the model with attn_implementation='sdpa', which does not pack images."
        )
    first = torch.zeros(call.q.shape[0], 1, dtype=torch.long, device=call.q.device)
    return cast(Tensor, measure(call, received=False, rows=first).rows)[:, 0, 1:]


def mean_rows(call: AttentionCall, rows: Tensor, counts: Tensor) -> Tensor:
    """Attention of chosen queries to every key, mean over heads and those queries: ``[B, K]``, 0 without queries.

    Parameters
    ----------
    rows : LongTensor [B, R]
        Queries.
    counts : BoolTensor [B, R]
        Which of them count.
    """
    weights = torch.zeros(call.q.shape[0], call.q.shape[2], device=call.q.device)
    weights.scatter_add_(1, rows.expand(len(weights), -1), counts.expand(len(weights), -1).to(weights.dtype))
    return column_sums(call, weights) / counts.sum(1, keepdim=True).clamp_min(1)
