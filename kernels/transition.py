"""Token transition value: how much one module (attention or FFN) changes each token."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from ._dispatch import launching_on, use_triton
from ._ragged import require_shape

Direction = Literal["signed", "abs"]
# torch.nn.functional.cosine_similarity clamps lengths here, and so does the paper's code
EPSILON = 1e-8


def token_transition(u: Tensor, y: Tensor, valid: Tensor | None = None, direction: Direction = "signed") -> Tensor:
    """Norm ratio times the softmax of the change of direction, per token.

    ``g_i = |y_i| / |u_i| * exp(1 - cos(u_i, y_i)) / sum_j exp(1 - cos(u_j, y_j))``, the sum over the valid tokens of
    the row. TransPrune (arXiv 2507.20630) adds it up over attention and FFN and over layers.

    Parameters
    ----------
    u : Tensor [B, T, D]
        Input of the module (after the norm). fp32, bf16 or fp16, any strides; all sums in fp32.
    y : Tensor [B, T, D]
        Output of the module before the residual is added.
    valid : BoolTensor [B, T], optional
        Tokens that count; the others (padding) get 0. Default all.
    direction : {"signed", "abs"}
        The paper's code uses the cosine, its text the absolute cosine.

    Returns
    -------
    Tensor [B, T], fp32

    Raises
    ------
    ValueError
        For shapes that do not fit or an unknown direction.

    Notes
    -----
    Differs from the paper's code in two places: the sum stays inside each row of a batch, and a zero input has its
    length clamped at 1e-8 instead of dividing by zero.
    """
    require_shape(u, (None, None, None), "u")
    require_shape(y, tuple(u.shape), "y")
    if valid is not None:
        require_shape(valid, tuple(u.shape[:2]), "valid")
    if direction not in get_args(Direction):
        raise ValueError(f"direction={direction!r} is not known. Allowed: {', '.join(get_args(Direction))}.")
    if use_triton(u, y, valid) and u.numel():
        from .transition_triton import transition_triton

        with launching_on(u):
            return transition_triton(u, y, valid, direction == "abs")
    return transition_torch(u, y, valid, direction == "abs")


def transition_torch(u: Tensor, y: Tensor, valid: Tensor | None, absolute: bool) -> Tensor:
    """Reference of :func:`token_transition`."""
    if u.dtype != torch.float64:
        u, y = u.float(), y.float()
    before, after = u.norm(dim=-1).clamp_min(EPSILON), y.norm(dim=-1)
    cosine = (u * y).sum(-1) / (before * after.clamp_min(EPSILON))
    turn = torch.exp(1 - (cosine.abs() if absolute else cosine))
    value = after / before * turn
    if valid is not None:
        turn, value = turn.masked_fill(~valid, 0), value.masked_fill(~valid, 0)
    # a row without a single valid token stays zero
    return value / turn.sum(1, keepdim=True).clamp_min(torch.finfo(turn.dtype).tiny)
