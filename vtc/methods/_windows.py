"""Tokens that are the best of their window of a lattice."""

from __future__ import annotations

import torch
from torch import Tensor


def windows_of(cell: Tensor, grid: tuple[int, int], side: int) -> tuple[Tensor, int]:
    """Window of every raster position ``cell`` [N] of a lattice, and how many windows there are.

    Windows have ``side`` x ``side`` cells; those at the far edges are wider, so that none is cut short. A lattice
    smaller than a window is one.
    """
    rows, cols = max(1, grid[0] // side), max(1, grid[1] // side)
    y, x = (cell // grid[1] // side).clamp_max(rows - 1), (cell % grid[1] // side).clamp_max(cols - 1)
    return y * cols + x, rows * cols


def best_of_windows(scores: Tensor, window: Tensor, count: int, k: int) -> Tensor:
    """The ``k`` tokens that a walk by falling score takes when no window may give more than ``ceil(k / count)``.

    Parameters
    ----------
    scores : Tensor [N]
    window : LongTensor [N]
        In ``0 .. count - 1``.
    count, k : int

    Returns
    -------
    LongTensor [<= k], in the order they are taken
    """
    if k <= 0:
        return torch.zeros(0, dtype=torch.long, device=scores.device)
    order = scores.sort(descending=True, stable=True).indices
    mine = window[order]
    # the ordinal of a token in its window: a stable sort by window keeps the order of scores inside of each
    grouped = mine.sort(stable=True).indices
    size = torch.bincount(mine, minlength=count)
    start = size.cumsum(0) - size
    ordinal = torch.empty_like(mine)
    ordinal[grouped] = torch.arange(len(mine), device=mine.device) - start[mine[grouped]]
    return order[ordinal < -(-k // count)][:k]
