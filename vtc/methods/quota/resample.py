"""Grids of features to other sizes: the operators of QuoTA (arXiv 2503.08689, Table 6 and code)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.tome import merge_down

Operator = Literal["bilinear", "average", "pick", "merge", "separable"]
OPERATORS: tuple[str, ...] = get_args(Operator)
ON_GRIDS = ("bilinear", "average", "separable")
"""Operators whose result is a grid again; the others give a plain list of rows."""


def resize(frames: Tensor, size: tuple[int, int], operator: str, lead: int | None = None) -> Tensor:
    """Frames ``[F, H, W, C]`` as ``[F, h * w, C]``.

    ``"bilinear"`` (v1 of the code): half-pixel centres, no anti-aliasing. ``"average"`` (v2): adaptive average pooling.
    ``"separable"`` (v5): every row is merged from W to w tokens, then every one of the w columns from H to h; rows and
    columns of the result do not stand for places any more, and only the first ``lead`` channels decide who merges.
    """
    count, height, width, dim = frames.shape
    h, w = size
    if operator == "separable":
        across = merge_down(frames.reshape(-1, width, dim), w, lead).view(count, height, w, dim)
        down = merge_down(across.transpose(1, 2).reshape(-1, height, dim), h, lead)
        return down.view(count, w, h, dim).transpose(1, 2).reshape(count, h * w, dim)
    channels = frames.permute(0, 3, 1, 2).contiguous()
    if operator == "bilinear":
        out = F.interpolate(channels, size=[h, w], mode="bilinear")
    else:
        out = F.adaptive_avg_pool2d(channels, (h, w))
    return out.permute(0, 2, 3, 1).reshape(count, h * w, dim)


def spread_indices(n: int, count: int) -> Tensor:
    """``count`` indices of ``n``, evenly from the first to the last, rounded down (v3)."""
    return torch.linspace(0, n - 1, count).long()


def shrink(rows: Tensor, count: int, operator: str, lead: int | None = None) -> Tensor:
    """Frames of rows ``[F, N, C]`` as ``[F, count, C]``, without a grid.

    ``"pick"`` (v3) takes rows at even distances. ``"merge"`` (v4) runs rounds of ToMe: the order is not that of places,
    and only the first ``lead`` channels decide who merges.
    """
    if operator == "pick":
        return rows[:, spread_indices(rows.shape[1], count).to(rows.device)]
    return merge_down(rows, count, lead)


def centres(old: int, new: int) -> Tensor:
    """Old index under the centre of each new one: ``floor((i + 0.5) * old / new)``, LongTensor [new]."""
    return (2 * torch.arange(new) + 1) * old // (2 * new)


def slots(grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Raster index in ``grid`` of each token of a smaller grid ``size``: increasing, the identity at equal sizes."""
    return (centres(grid[0], size[0])[:, None] * grid[1] + centres(grid[1], size[1])).reshape(-1)


def cells(grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Token of ``size`` that covers the centre of each token of ``grid``: LongTensor [H * W]."""
    return (centres(size[0], grid[0])[:, None] * size[1] + centres(size[1], grid[1])).reshape(-1)


def token_grid(count: int, height: int, width: int, cap: bool = True) -> tuple[int, int]:
    """Rows and columns that ``count`` tokens make of a frame of ``height`` x ``width``; never more than ``count``.

    For square frames ``(a + 1, a)`` or ``(a, a)`` with ``a = isqrt(count)``, as published; for others the same by
    aspect ratio. ``cap`` keeps the grid within the frame; without it a frame may be up-sampled.
    """
    if count <= 0:
        return 0, 0
    if cap and count >= height * width:
        return height, width
    rows, cols = math.isqrt(count * height // width), math.isqrt(count * width // height)
    if rows == 0:
        rows, cols = 1, (min(count, width) if cap else count)
    elif cols == 0:
        rows, cols = (min(count, height) if cap else count), 1
    if (rows + 1) * cols <= count and not (cap and rows >= height):
        return rows + 1, cols
    if rows * (cols + 1) <= count and not (cap and cols >= width):
        return rows, cols + 1
    return rows, cols
