"""Published form of attention statistics, for comparison: no product code calls it."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_published(q: Tensor, k: Tensor, causal: bool = False) -> Tensor:
    """Whole attention maps [B, H, Lq, Lk] in fp32, of which papers take means over heads and queries.

    ``q`` [B, H, Lq, d] and ``k`` [B, Hk, Lk, d]; needs B * H * Lq * Lk * 4 bytes, several times.
    """
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    score = (q @ k.mT).float() * q.shape[-1] ** -0.5
    if causal:
        hidden = torch.ones(score.shape[-2:], dtype=torch.bool, device=q.device).triu(1 + k.shape[2] - q.shape[2])
        score = score.masked_fill(hidden, -torch.inf)
    return score.softmax(-1)
