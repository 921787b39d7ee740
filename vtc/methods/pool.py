"""Uniform spatial pooling, the baseline that merges by place alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.layout import Role
from ..core.merge import group_shares, grouped_mean
from ..core.select import part_budgets
from ..core.stage import ModelFacts, Projector, Selection, Stage, View
from .base import Method


def pooled_shape(height: int, width: int, budget: int) -> tuple[int, int]:
    """Lattice (rows, cols) that fits ``budget``, nearly full and nearly of the right aspect ratio."""
    best, best_rank = (1, 1), (-1.0, 0.0)
    for rows in range(1, min(height, budget) + 1):
        cols = min(width, budget // rows)
        rank = (float(rows * cols), -abs(math.log(rows * width / (cols * height))))
        # a nearly full lattice of the right shape beats a full one of the wrong shape (7 x 7 over 1 x 50)
        score = (rank[0] / budget + rank[1], rank[1])
        if score > best_rank or best_rank[0] == -1.0:
            best, best_rank = (rows, cols), score
    return best


def cell_groups(height: int, width: int, budget: int) -> Tensor:
    """Pooling cell of every raster position: LongTensor [height * width] in ``0 .. rows * cols - 1``."""
    rows, cols = pooled_shape(height, width, budget)
    r = torch.arange(height) * rows // height
    c = torch.arange(width) * cols // width
    return (r[:, None] * cols + c[None, :]).reshape(-1)


@dataclass(kw_only=True)
class Pool(Method):
    """Average neighbouring tokens on a regular lattice, tile by tile and frame by frame.

    Each cell's mean takes the place of the token nearest the cell's centre. The lattice is the nearly square one that
    fits the budget, so fewer tokens than asked for may stay, never more. Newline rows are dropped.
    """

    name: ClassVar[str] = "pool"
    summary: ClassVar[str] = "uniform spatial average pooling to the budget (baseline)"
    positions: Literal["keep", "renumber"] = "keep"

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, per image."""
        return [Stage(at=Projector(), select=self.select, keep_count=self.keep_count, positions=self.positions)]

    def select(self, view: View) -> Selection:
        """Pool every partition to its share of the budget."""
        device = view.features.device
        group = torch.full((view.n,), -1, dtype=torch.long)
        part, cell, role = view.part.cpu(), view.cell.cpu(), view.role.cpu()
        names = part[role == Role.PATCH].unique().tolist()
        rows = [((part == p) & (role == Role.PATCH)).nonzero(as_tuple=True)[0] for p in names]
        slots, used = [], 0
        for name, index, budget in zip(names, rows, part_budgets(self.keep, [len(r) for r in rows]), strict=True):
            if budget == 0:
                continue
            height, width = self._lattice(view, name, cell[index])
            cells = cell_groups(height, width, budget)[cell[index]]
            present, compact = cells.unique(return_inverse=True)
            group[index] = compact + used
            slots.append(index[_centres(cell[index], compact, len(present), width)])
            used += len(present)
        keep, order = torch.cat(slots).sort()
        group[group >= 0] = order.argsort()[group[group >= 0]]
        group, keep = group.to(device), keep.to(device)
        weights = torch.ones(view.n, device=device)
        values = grouped_mean(view.features, group, weights, len(keep))
        return Selection(keep, values, groups=group, weights=group_shares(group, weights, len(keep)))

    @staticmethod
    def _lattice(view: View, part: int, cells: Tensor) -> tuple[int, int]:
        grids = view.units[0].filled().part_grids
        height, width = grids[part] if part < len(grids) else (1, int(cells.max()) + 1)
        return height, width


def _centres(cells: Tensor, group: Tensor, count: int, width: int) -> Tensor:
    """Position (within ``cells``) of the token nearest the centre of each group."""
    yx = torch.stack([cells // width, cells % width], 1).double()
    mean = torch.zeros(count, 2, dtype=torch.double).index_add_(0, group, yx)
    mean /= torch.bincount(group, minlength=count)[:, None]
    distance = (yx - mean[group]).square().sum(1)
    order = torch.argsort(distance, stable=True)
    first = torch.full((count,), -1, dtype=torch.long)
    for i in reversed(order.tolist()):
        first[group[i]] = i
    return first
