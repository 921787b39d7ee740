"""Token transition: how much a module changes the length and the direction of every token (TransPrune)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vtc.kernels import token_transition
from vtc.kernels._dispatch import use_triton

Direction = Literal["signed", "abs"]


def transition(u: Tensor, y: Tensor, counted: Tensor | None = None, direction: Direction = "signed") -> Tensor:
    """Norm ratio times the direction's share of its sequence, per token.

    Parameters
    ----------
    u, y : Tensor [B, T, D]
        Input and output of the module, any float dtype.
    counted : BoolTensor [B, T] or None
        Tokens over which the directions are normalised; the others get 0. None: all.
    direction : {"signed", "abs"}
        ``e = exp(1 - cos(u, y))`` or ``exp(1 - |cos(u, y)|)``.

    Returns
    -------
    Tensor [B, T], fp32 (fp64 stays)
        ``|y| / |u| * e / sum_j e_j``.
    """
    if use_triton(u, y, counted):
        return token_transition(u, y, counted, direction)
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    u, y = u.to(dtype), y.to(dtype)
    cosine = F.cosine_similarity(u, y, dim=-1)
    away = torch.exp(1 - (cosine if direction == "signed" else cosine.abs()))
    ratio = y.norm(dim=-1) / u.norm(dim=-1)
    if counted is not None:
        # before the sum: a padding row may be all zeros and its ratio 0 / 0
        away, ratio = away.masked_fill(~counted, 0.0), ratio.masked_fill(~counted, 0.0)
    return ratio * away / away.sum(-1, keepdim=True)
