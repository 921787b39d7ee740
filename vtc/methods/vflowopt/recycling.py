"""Recycling of dropped tokens into the cells of a coarse square grid (VFlowOpt, stage 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ...core.layout import Role
from ...core.merge import group_shares, grouped_mean
from ...core.stage import Selection, View


def lattice(view: View) -> Tensor:
    """Region, row and column of every token: LongTensor [N, 3]; tokens of different regions never merge.

    The base crop (partition 0) is one region. Tiles stitched to one map, whose rows end with a newline, are
    another one; tiles that were not stitched are one region each.
    """
    grids = view.units[0].filled().part_grids
    widths = torch.tensor([w for _, w in grids] or [view.n], device=view.part.device)
    width = widths[view.part.clamp(0, len(widths) - 1)]
    place = torch.stack([view.part, view.cell // width, view.cell % width], 1)
    beyond = (view.part != 0) | (view.role != Role.PATCH)
    newline = view.role == Role.NEWLINE
    if bool(newline.any()):
        ends = newline.long().cumsum(0)
        row = (ends - newline.long())[beyond]
        order = torch.arange(len(row), device=row.device)
        # first token of each row of the stitched map
        start = torch.full((int(row.max()) + 1,), len(row), device=row.device).scatter_reduce_(0, row, order, "amin")
        place[beyond] = torch.stack([torch.ones_like(row), row, order - start[row]], 1)
    return place


def weakest(importance: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Pick the ``count`` candidates of least importance, of equal ones the lower index."""
    order = importance[candidates].sort(stable=True).indices
    return candidates[order[: max(0, count)]]


def recycle(importance: Tensor, place: Tensor, low: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """Group the tokens ``low`` by the cell of ``side`` x ``side`` tokens they lie in.

    Parameters
    ----------
    importance : Tensor [N]
    place : LongTensor [N, 3]
        See :func:`lattice`.
    low : LongTensor [M], M >= 1
    side : float

    Returns
    -------
    slots : LongTensor [C]
        Most important token of every non-empty cell (lower index of equal ones).
    cell : LongTensor [M]
        Index into ``slots`` of the cell of each of ``low``.
    """
    coarse = place[low].double()
    coarse[:, 1:] = (coarse[:, 1:] / side).floor()
    cells, cell = coarse.unique(dim=0, return_inverse=True)
    top = torch.full((len(cells),), -torch.inf, dtype=importance.dtype, device=low.device)
    top.scatter_reduce_(0, cell, importance[low], "amax")
    best = importance[low] == top[cell]
    slots = torch.full((len(cells),), len(importance), dtype=torch.long, device=low.device)
    slots.scatter_reduce_(0, cell[best], low[best], "amin")
    return slots, cell


def merge_weights(importance: Tensor, cell: Tensor, count: int, signed: bool) -> Tensor:
    """Weights in a cell: the importance, or where that may be negative, what lies above the cell's least."""
    if not signed:
        return importance
    least = torch.full((count,), torch.inf, dtype=importance.dtype, device=importance.device)
    least.scatter_reduce_(0, cell, importance, "amin")
    return importance - least[cell] + 1e-6


def balance(importance: Tensor, target: Tensor, low: Tensor, count: int) -> Tensor:
    """Change a merge plan so that exactly ``count`` tokens stay.

    Parameters
    ----------
    importance : Tensor [N]
    target : LongTensor [N]
        Token each one is merged into, itself for kept ones.
    low : LongTensor [M]
        Tokens that may go.
    count : int

    Returns
    -------
    LongTensor [N]
        ``target`` with the weakest cells dropped (-1), or the strongest merged tokens standing for
        themselves.
    """
    own = torch.arange(len(target), device=target.device)
    surplus = int((target == own).sum()) - count
    ascending = low[importance[low].sort(stable=True).indices]
    if surplus > 0:
        slots = ascending[target[ascending] == ascending]
        return torch.where(torch.isin(target, slots[:surplus]), -1, target)
    merged = ascending[target[ascending] != ascending]
    promoted = torch.zeros_like(own, dtype=torch.bool)
    promoted[merged[len(merged) + surplus :]] = True
    return torch.where(promoted, own, target)


def merge_cells(view: View, importance: Tensor, drop: int, side: float, signed: bool, exact: bool) -> Selection:
    """Drop ``drop`` tokens of least importance [N], but merge them inside cells of ``side`` x ``side`` tokens.

    ``signed``: importances may be negative. ``exact``: exactly ``N - drop`` tokens stay.
    """
    low = weakest(importance, view.patches, drop + int(view.n / side**2))
    slots, cell = recycle(importance, lattice(view), low, side)
    target = torch.arange(view.n, device=low.device)
    target[low] = slots[cell]
    if exact:
        target = balance(importance, target, low, view.n - drop)
    weights = torch.ones(view.n, dtype=importance.dtype, device=low.device)
    weights[low] = merge_weights(importance[low], cell, len(slots), signed)
    keep = (target == torch.arange(view.n, device=low.device)).nonzero(as_tuple=True)[0]
    groups = torch.where(target >= 0, torch.searchsorted(keep, target.clamp_min(0)), -1)
    values = grouped_mean(view.features, groups, weights, len(keep))
    return Selection(keep, values, importance, groups, group_shares(groups, weights, len(keep)))
