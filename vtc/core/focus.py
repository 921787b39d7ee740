"""Two-pass received attention (VFlowOpt): what the few heavily attended tokens attend to."""

from __future__ import annotations

import torch
from torch import Tensor


def global_set(received: Tensor, t: float) -> Tensor:
    """Tokens that receive more than ``t`` times the mean attention: bool [..., N].

    Where no token does, the one that receives most (the lowest index of equals) stands alone, so that no row
    is empty.
    """
    chosen = received > t * received.mean(-1, keepdim=True)
    strongest = torch.zeros_like(chosen).scatter_(-1, received.argmax(-1, keepdim=True), True)
    return torch.where(chosen.any(-1, keepdim=True), chosen, strongest)


def focus_dense(attention: Tensor, t: float) -> Tensor:
    """Compute importances from complete attention maps.

    Parameters
    ----------
    attention : Tensor [B, H, N, N]
        After the softmax, rows are queries, [CLS] removed.
    t : float
        Threshold in units of the mean received attention.

    Returns
    -------
    Tensor [B, N], fp32 (fp64 stays)
        Mean over the global tokens of the head-averaged attention they pay; every row sums to that of
        ``attention``.
    """
    mean = attention.to(_precise(attention)).mean(1)
    chosen = global_set(mean.mean(1), t)
    weights = chosen / chosen.sum(-1, keepdim=True)
    return (weights.to(mean.dtype)[:, None] @ mean)[:, 0]


def focus(q: Tensor, k: Tensor, scaling: float, t: float, skip: int = 0, chunk: int = 256) -> Tensor:
    """Compute importances from queries and keys of one layer, without an N x N matrix.

    The first pass adds up what every token receives, ``chunk`` queries at a time; the second one computes
    only the rows of the global tokens.

    Parameters
    ----------
    q : Tensor [B, H, S, d]
    k : Tensor [B, Hk, S, d]
        Hk divides H.
    scaling : float
        Factor of the scores before the softmax.
    t : float
        Threshold in units of the mean received attention.
    skip : int
        Leading tokens ([CLS], registers) that take part in the softmax and are dropped afterwards, row and
        column.
    chunk : int

    Returns
    -------
    Tensor [B, S - skip], fp32 (fp64 stays)
    """
    if k.shape[1] != q.shape[1]:
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    n = q.shape[2] - skip
    keys = k.to(_precise(k)).transpose(-1, -2)
    received = torch.zeros(q.shape[0], n, dtype=keys.dtype, device=q.device)
    for rows in q[:, :, skip:].split(chunk, dim=2):
        received += _probabilities(rows, keys, scaling)[..., skip:].sum((1, 2))
    chosen = global_set(received, t)
    out = torch.empty_like(received)
    for b, mask in enumerate(chosen):
        picked = mask.nonzero(as_tuple=True)[0] + skip
        total = torch.zeros_like(out[b])
        for rows in picked.split(chunk):
            total += _probabilities(q[b, :, rows], keys[b], scaling)[..., skip:].sum((0, 1))
        out[b] = total / (len(picked) * q.shape[1])
    return out


def _precise(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _probabilities(q: Tensor, keys: Tensor, scaling: float) -> Tensor:
    return torch.softmax(q.to(keys.dtype) @ keys * scaling, -1)
