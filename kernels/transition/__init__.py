"""Token transition value: how much one module (attention or FFN) changes each token."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from .._dispatch import launching_on, use_triton
from .._ragged import require_shape
from .naive import transition_torch

Direction = Literal["signed", "abs"]


def token_transition(u: Tensor, y: Tensor, valid: Tensor | None = None, direction: Direction = "signed") -> Tensor:
    """Norm ratio times the softmax of the change of direction, per token.

    ``g_i = |y_i| / |u_i| * exp(1 - cos(u_i, y_i)) / sum_j exp(1 - cos(u_j, y_j))``, the sum over the valid tokens of
    the row. TransPrune (arXiv 2507.20630) adds it up over attention and FFN and over layers.

    Parameters
    ----------
    u : Tensor [B, T, D]
        Input of the module (after the norm). fp32, bf16 or fp16, with all sums in fp32, or fp64; any strides.
    y : Tensor [B, T, D]
        Output of the module before the residual is added.
    valid : BoolTensor [B, T], optional
        Tokens that count; the others (padding) get 0. Default all.
    direction : {"signed", "abs"}
        The paper's code uses the cosine, its text the absolute cosine.

    Returns
    -------
    Tensor [B, T], fp32 (fp64 stays)

    Raises
    ------
    ValueError
        For shapes that do not fit or an unknown direction.

    Notes
    -----
    Differs from the paper's code in one place: the sum stays inside each row of a batch.

    The norm ratio has no epsilon, on any device: a valid token that enters the module as a zero vector has no ratio,
    and gets inf (or NaN where it also leaves as one). A norm layer makes no such token, and a number made of an epsilon
    would be ranked as if it meant something; this way whoever selects by it refuses. Lengths inside of the cosine are
    clamped at 1e-8, as torch does, so that the sum, and with it every other token, stays finite.
    """
    require_shape(u, (None, None, None), "u")
    require_shape(y, tuple(u.shape), "y")
    if valid is not None:
        require_shape(valid, tuple(u.shape[:2]), "valid")
    if direction not in get_args(Direction):
        raise ValueError(f"direction={direction!r} is not known. Allowed: {', '.join(get_args(Direction))}.")
    if use_triton(u, y, valid) and u.numel():
        from .triton import transition_triton

        with launching_on(u):
            return transition_triton(u, y, valid, direction == "abs")
    return transition_torch(u, y, valid, direction == "abs")
