"""Anyres packing written for the tests: best resolution, stitching, unpadding, shrinking, newlines."""

from __future__ import annotations

import math

import torch
from torch import nn


def best_grid(image_hw, pinpoints, tile):
    """Tile grid (rows, cols) of the canvas that keeps most of the image, of equal ones the least wasteful."""
    h, w = image_hw

    def rank(canvas):
        scale = min(canvas[1] / w, canvas[0] / h)
        used = min(int(w * scale) * int(h * scale), w * h)
        return used, used - canvas[0] * canvas[1]

    canvas = max(pinpoints, key=rank)
    return canvas[0] // tile, canvas[1] // tile


def unpad(canvas_hw, image_hw):
    """Rows and columns (two slices) of the canvas that show the image."""
    (height, width), (h, w) = canvas_hw, image_hw
    if w / h > width / height:
        padding = (height - int(h * (width / w))) // 2
        return slice(padding, height - padding), slice(None)
    padding = (width - int(w * (height / h))) // 2
    return slice(None), slice(padding, width - padding)


def stitch(tiles, grid, side):
    """Tiles [k, side * side, C] as one map [C, rows, cols]."""
    gh, gw = grid
    channels = tiles.shape[-1]
    return tiles.view(gh, gw, side, side, channels).permute(4, 0, 2, 1, 3).reshape(channels, gh * side, gw * side)


def shrink(chart, side, most):
    """Bilinear resize of a map [C, h, w] that is larger than ``most`` tiles by more than a tenth per side."""
    _, h, w = chart.shape
    times = math.sqrt(h * w / (most * side**2))
    if times <= 1.1:
        return chart
    return nn.functional.interpolate(chart[None], [int(h // times), int(w // times)], mode="bilinear")[0]


def pack(parts, newline, grid, side, image_hw, most):
    """Base crop and tiles [1 + k, side * side, C] as packed rows [L, C], and the width of a stitched row."""
    chart = stitch(parts[1:], grid, side)
    rows, cols = unpad(chart.shape[1:], image_hw)
    chart = shrink(chart[:, rows, cols], side, most)
    column = newline[:, None, None].expand(-1, chart.shape[1], 1)
    chart = torch.cat([chart, column], 2)
    return torch.cat([parts[0], chart.flatten(1).T]), chart.shape[2]
