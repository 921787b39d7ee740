"""Views made by hand, as the engine would fill them."""

from __future__ import annotations

import torch

from vtc.core.layout import Role, Unit
from vtc.core.stage import View


def plain_view(features, keep_count, stats=None, grid=None, image=0, modality="image"):
    """One image (or video, with ``grid`` = (frames, h, w)) without newlines."""
    n = len(features)
    unit = Unit(modality, n, grid or (1, 1, n)).filled()
    return View(
        features=features,
        unit=torch.zeros(n, dtype=torch.long),
        part=unit.part,
        cell=unit.cell,
        role=unit.role,
        units=[unit],
        keep_count=keep_count,
        stats=stats or {},
        image=image,
    )


def tiled_view(features, keep_count, stats, part, cell, role, grids, info):
    """One image with tiles; ``part``, ``cell``, ``role`` per packed row."""
    unit = Unit("image", len(part), None, part, cell, role, tuple(grids), info)
    return View(
        features=features,
        unit=torch.zeros(len(part), dtype=torch.long),
        part=part,
        cell=cell,
        role=role,
        units=[unit],
        keep_count=keep_count,
        stats=stats,
    )


def anyres_index(grid, side, rows=slice(None), cols=slice(None), newlines=True):
    """Packed (part, cell, role) of a base crop and stitched tiles, cut to some rows and columns."""
    gh, gw = grid
    y, x = torch.arange(gh * side), torch.arange(gw * side)
    part = (1 + (y // side)[:, None] * gw + (x // side)[None, :])[rows, cols]
    cell = ((y % side)[:, None] * side + (x % side)[None, :])[rows, cols]
    role = torch.full_like(part, int(Role.PATCH))
    if newlines:
        end = torch.ones(len(part), 1, dtype=torch.long)
        part, cell = torch.cat([part, part[:, -1:]], 1), torch.cat([cell, -end], 1)
        role = torch.cat([role, end * int(Role.NEWLINE)], 1)
    base = torch.arange(side * side)
    zero = torch.zeros_like(base)
    return tuple(torch.cat([b, t.reshape(-1)]) for b, t in ((zero, part), (base, cell), (zero, role)))
