"""Plain torch of :func:`vtc.kernels.token_transition`, which is also the published form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .._ragged import accumulator


def transition_torch(u: Tensor, y: Tensor, valid: Tensor | None, absolute: bool) -> Tensor:
    """Transition [B, T] of every token; ``absolute`` takes the absolute cosine."""
    dtype = accumulator(u, y)
    u, y = u.to(dtype), y.to(dtype)
    cosine = cosine_similarity(u, y, dim=-1)
    turn = torch.exp(1 - (cosine.abs() if absolute else cosine))
    # no epsilon: a token whose length is 0 before the module has no ratio, see Notes of token_transition
    ratio = y.norm(dim=-1) / u.norm(dim=-1)
    if valid is not None:
        # before the sum: padding may be all zeros, its ratio 0 / 0
        turn, ratio = turn.masked_fill(~valid, 0.0), ratio.masked_fill(~valid, 0.0)
    # a row without a single valid token stays zero
    return ratio * turn / turn.sum(-1, keepdim=True).clamp_min(torch.finfo(dtype).tiny)
