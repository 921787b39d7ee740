"""Plain torch of :func:`vtc.kernels.group_means`, and the published form of a merge."""

from __future__ import annotations

import torch
from torch import Tensor

from .._ragged import accumulator

# weights of a group that sum to no more than this carry no information
EPSILON = 1e-12


def shares_torch(groups: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weight of every token by the sum of its group [B, N]; 1 / members where that sum is nothing, 0 in no group."""
    mass = weights.to(accumulator(weights)).flatten()
    flat = _flat(groups, count)
    total = mass.new_zeros(groups.shape[0] * (count + 1)).index_add_(0, flat, mass)
    size = torch.zeros_like(total).index_add_(0, flat, torch.ones_like(mass))
    share = torch.where(total[flat] <= EPSILON, 1 / size[flat], mass / total[flat].clamp_min(EPSILON))
    return share.view_as(groups) * (groups >= 0)


def means_torch(x: Tensor, groups: Tensor, weights: Tensor | None, count: int) -> Tensor:
    """Means [B, count, D] of the groups in the dtype of ``x``."""
    batch, _, depth = x.shape
    kind = accumulator(x, weights)
    weights = torch.ones(groups.shape, dtype=kind, device=x.device) if weights is None else weights.to(kind)
    rows = x.to(kind) * shares_torch(groups, weights, count)[..., None]
    values = rows.new_zeros(batch * (count + 1), depth).index_add_(0, _flat(groups, count), rows.flatten(0, 1))
    return values.view(batch, count + 1, depth)[:, :count].to(x.dtype)


def _flat(groups: Tensor, count: int) -> Tensor:
    """Number every group of the batch; a spare one per row swallows the tokens in none: LongTensor [B * N]."""
    row = torch.arange(groups.shape[0], device=groups.device)[:, None]
    return (torch.where(groups >= 0, groups, count) + row * (count + 1)).flatten()


def merge_published(x: Tensor, index: Tensor) -> Tensor:
    """Merge as VisionZip (arXiv 2412.04467) is published: all cosines with the kept tokens at once, then a scatter.

    ``x`` [B, N, D], ``index`` LongTensor [B, K]; plain means [B, K, D].
    """
    unit = torch.nn.functional.normalize(x, dim=-1)
    pick = index[..., None].expand(-1, -1, x.shape[2])
    group = (unit @ unit.gather(1, pick).mT).argmax(2)
    return torch.zeros_like(x[:, : index.shape[1]]).scatter_reduce(
        1, group[..., None].expand_as(x), x, "mean", include_self=False
    )
