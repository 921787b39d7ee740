"""Two-pass received attention (VFlowOpt): what the few heavily attended tokens attend to."""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import AttentionCall, column_sums, received, visible


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


def focus(q: Tensor, k: Tensor, scaling: float, t: float, skip: int = 0) -> Tensor:
    """Compute importances from queries and keys of one layer, without an N x N matrix.

    The first pass adds up what every token receives; the second one computes only the rows of the global tokens.

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

    Returns
    -------
    Tensor [B, S - skip], fp32 (fp64 stays)
    """
    call = AttentionCall(q, k, scaling)
    patches = (torch.arange(q.shape[2], device=q.device) >= skip).to(torch.float32).expand(q.shape[0], -1)
    got = column_sums(call, patches if skip else None)[:, skip:]
    chosen = torch.nn.functional.pad(global_set(got, t), (skip, 0)).to(torch.float32)
    return column_sums(call, chosen)[:, skip:] / chosen.sum(1, keepdim=True)


def _precise(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def focus_of_call(call: AttentionCall, t: float, skip: int = 0) -> Tensor:
    """Importances of every image in one call of an attention kernel, whose images a mask or bounds may separate.

    Returns
    -------
    Tensor [B, N], fp32 (fp64 stays)
        NaN for the ``skip`` leading tokens.
    """
    if call.segments is not None:
        return torch.cat([focus_of_call(part, t, skip) for part in call.alone()], -1)
    if call.mask is None:
        found = focus(call.q, call.k, call.scaling, t, skip)
        return torch.nn.functional.pad(found, (skip, 0), value=torch.nan)
    return _focus_of_blocks(call, t)


def _focus_of_blocks(call: AttentionCall, t: float) -> Tensor:
    """Several images in one sequence: a block is named by the first key its tokens see."""
    got = received(call)
    batch, n = got.shape
    every = torch.arange(n, device=got.device)[None].expand(batch, -1)
    seen = visible(call, every)
    block = torch.zeros_like(every) if seen is None else seen[:, 0].expand(batch, n, n).to(torch.int8).argmax(-1)
    size = torch.zeros_like(got).scatter_add_(1, block, torch.ones_like(got))
    mean = torch.zeros_like(got).scatter_add_(1, block, got) / size.clamp_min(1)
    most = torch.zeros_like(got).scatter_reduce_(1, block, got, "amax")
    strong = got > t * mean.gather(1, block)
    count = torch.zeros_like(got).scatter_add_(1, block, strong.to(got.dtype))
    # where none is, the first of those that receive most
    first = torch.full_like(block, n).scatter_reduce_(1, block, every.where(got == most.gather(1, block), n), "amin")
    lone = (every == first.gather(1, block)) & (count.gather(1, block) == 0)
    total = column_sums(call, (strong | lone).to(got.dtype))
    return total / count.gather(1, block).clamp_min(1)
