"""Budgets of the tiles of one image, from the attention map of its full view (HiRED, phase 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ...core.select import require_finite, topk_indices

Content = Literal["mass", "count"]
Region = Literal["spatial", "raster"]


def split_budget(total: int, alpha: float, sizes: Sequence[int]) -> tuple[int, int]:
    """Tokens of the full image (partition 0) and of all tiles together, neither above what is there."""
    base = min(int(total * alpha), sizes[0])
    return base, min(total - base, sum(sizes[1:]))


def tile_of(height: int, width: int, grid: tuple[int, int], region: Region) -> Tensor:
    """Tile each token of a ``height x width`` full image belongs to: LongTensor [height * width].

    ``spatial``: by place, also where the side is no multiple of the grid. ``raster``: equal runs of the
    raster order.
    """
    rows, cols = grid
    if region == "raster":
        n = height * width
        return torch.arange(n) * (rows * cols) // n
    y, x = torch.arange(height) * rows // height, torch.arange(width) * cols // width
    return (y[:, None] * cols + x[None, :]).reshape(-1)


def tile_content(attention: Tensor, tile: Tensor, count: int, content: Content, top: int) -> Tensor:
    """How much each of ``count`` tiles shows: double [count], CPU.

    Parameters
    ----------
    attention : Tensor [N]
        Early attention of the full image.
    tile : LongTensor [N]
        See :func:`tile_of`.
    count : int
    content : {"mass", "count"}
        Sum of the attention, or number of tokens among the ``top`` strongest.
    top : int
        For "count".
    """
    require_finite(attention, "The attentions of the full image")
    attention = attention.detach().cpu().double()
    if content == "count":
        strong = torch.zeros_like(attention)
        strong[topk_indices(attention, top)] = 1.0
        attention = strong
    return torch.zeros(count, dtype=torch.double).index_add_(0, tile, attention)


def tile_budgets(total: int, content: Tensor, sizes: Sequence[int], leftover: str, single: bool) -> list[int]:
    """Share ``total`` tokens over tiles in proportion to ``content``, rounded down and clamped to sizes.

    Parameters
    ----------
    total : int
    content : Tensor [k], double
        All zero: every tile counts the same.
    sizes : sequence of int
    leftover : {"drop", "largest_remainder"}
        Leave what rounding and clamping free, or hand it out one by one, largest fraction first.
    single : bool
        Compute the shares in fp32; about one in a thousand falls just below an integer and loses a token.
    """
    content = content if float(content.sum()) > 0 else torch.ones_like(content)
    if single:
        content = content.float()
        exact = content / content.sum() * total
    else:
        exact = total * content / content.sum()
    budgets = [min(int(e), size) for e, size in zip(exact.tolist(), sizes, strict=True)]
    if leftover == "drop":
        return budgets
    by_fraction = sorted(range(len(sizes)), key=lambda i: (budgets[i] - float(exact[i]), i))
    while sum(budgets) < min(total, sum(sizes)):
        for i in by_fraction:
            if budgets[i] < sizes[i] and sum(budgets) < total:
                budgets[i] += 1
    return budgets
