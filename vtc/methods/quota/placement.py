"""From counts per frame to slots: which ones of the prompt stay, and what moves into them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...core.budget import split_evenly
from .frames import Frame, Region
from .resample import ON_GRIDS, cells, slots, spread_indices, token_grid


@dataclass(frozen=True)
class Move:
    """Rows ``source`` LongTensor [n] of a view, of frame ``frame``, become those at the slots ``target`` [m].

    ``grid`` and ``size`` are the lattices of both, None for plain lists; ``cell`` LongTensor [n] is the new row that
    covers each old one.
    """

    frame: int
    source: Tensor
    grid: tuple[int, int] | None
    size: tuple[int, int] | None
    target: Tensor
    cell: Tensor
    operator: str

    @property
    def kind(self) -> tuple:
        """Equal for moves that can run as one batch."""
        return self.grid, self.size, len(self.source), len(self.target), self.operator


@dataclass(frozen=True)
class Placement:
    """All moves of a clip; ``stay`` rows are left alone; ``keep`` LongTensor [K] are all used slots, ascending."""

    moves: list[Move]
    stay: Tensor
    keep: Tensor

    @classmethod
    def of(cls, moves: list[Move], extra: list[Tensor]) -> Placement:
        """Placement of these moves and of rows that stay as they are."""
        stay = torch.cat(extra)
        return cls(moves, stay, torch.cat([*(m.target for m in moves), stay]).sort().values)

    def groups(self, n: int) -> Tensor:
        """Position in ``keep`` that each of ``n`` rows went to, -1 for none: LongTensor [n]."""
        slot = torch.full((n,), -1, dtype=torch.long)
        slot[self.keep] = torch.arange(len(self.keep))
        out = torch.full((n,), -1, dtype=torch.long)
        out[self.stay] = slot[self.stay]
        for m in self.moves:
            out[m.source] = slot[m.target[m.cell]]
        return out


def place(frames: list[Frame], counts: list[int], operator: str, loose: Tensor) -> Placement:
    """Resample frames within their own slots."""
    moves: list[Move] = []
    extra = [loose]
    for number, (frame, count) in enumerate(zip(frames, counts, strict=True)):
        for region, share in zip(frame.regions, _shares(frame, count), strict=True):
            if share:
                move, newlines = _move(number, region, share, operator)
                moves.append(move)
                extra.append(newlines)
        extra.append(frame.extra if count else frame.extra[:0])
    return Placement.of(moves, extra)


def _shares(frame: Frame, count: int) -> list[int]:
    """Tokens of each region (base crop, tiles) by size; what rounding leaves goes to those with room, in order."""
    sizes = [len(r.index) for r in frame.regions]
    if len(sizes) == 1:
        return [count]
    shares = [count * n // sum(sizes) for n in sizes]
    more = split_evenly(count - sum(shares), [n - s for n, s in zip(sizes, shares, strict=True)])
    return [s + m for s, m in zip(shares, more, strict=True)]


def _move(number: int, region: Region, count: int, operator: str) -> tuple[Move, Tensor]:
    """Move of one region, and the newlines that stay behind its rows."""
    n = len(region.index)
    if region.grid is None and operator != "merge":
        operator = "pick"
    if operator not in ON_GRIDS:
        target, cell = region.index[spread_indices(n, count)], torch.arange(n) * count // n
        # a list of tokens has no rows, unless it is still the whole lattice
        newlines = region.newlines if count == n else region.newlines[:0]
        return Move(number, region.index, region.grid, None, target, cell, operator), newlines
    assert region.grid is not None
    size = token_grid(count, *region.grid)
    used = slots(region.grid, size)
    ends = used[:: size[1]] // region.grid[1]
    newlines = region.newlines[ends] if len(region.newlines) else region.newlines
    cell = cells(region.grid, size)
    return Move(number, region.index, region.grid, size, region.index[used], cell, operator), newlines


def place_unpooled(
    frames: list[Frame], counts: list[int], before: tuple[int, int], operator: str, loose: Tensor
) -> Placement:
    """Resample frames from larger grids ``before``; one that outgrows its own slots moves into those of others.

    Then the slots are used from the first one on without gaps: 1-D positions are contiguous in any case.
    """
    moves, fits = [], True
    for number, (frame, count) in enumerate(zip(frames, counts, strict=True)):
        if count == 0:
            continue
        index, grid = frame.regions[0].index, frame.regions[0].grid
        assert grid is not None
        size = token_grid(count, *before, cap=operator != "bilinear") if operator in ON_GRIDS else None
        length, n = count if size is None else size[0] * size[1], len(index)
        inside = length <= n if size is None else size[0] <= grid[0] and size[1] <= grid[1]
        cell = torch.arange(n) * length // n if size is None else cells(grid, size)
        used = torch.arange(length) if not inside else spread_indices(n, length) if size is None else slots(grid, size)
        fits = fits and inside
        moves.append(Move(number, index, grid, size, index[used] if inside else used, cell, operator))
    if not fits:
        free = torch.cat([f.regions[0].index for f in frames])
        lengths = [len(m.target) for m in moves]
        packed = free[: sum(lengths)].split(lengths)
        moves = [replace(m, target=target) for m, target in zip(moves, packed, strict=True)]
    extra = [f.extra for f, count in zip(frames, counts, strict=True) if count]
    return Placement.of(moves, [*extra, loose])
