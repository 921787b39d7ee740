"""From counts per frame to rows: which slots of the prompt stay, and what is written into them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..core.budget import split_evenly
from ..core.quota import token_grid
from ..core.resample import ON_GRIDS, cells, resize, shrink, slots, spread_indices
from ..core.stage import FrameGrids
from ._quota_frames import Frame, Region


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


def move_rows(placement: Placement, features: Tensor, rows: Tensor | None = None) -> Tensor:
    """New rows of a view: of its features ``[N, D]``, or of other ``rows`` ``[N, E]`` of the same tokens.

    Where operators merge by similarity, the features decide who merges, whatever is moved.
    """
    source = features if rows is None else torch.cat([features.to(rows), rows], 1)
    out, lead = source.clone(), features.shape[1]
    for alike in _batches(placement.moves):
        first = alike[0]
        if len(first.target) == len(first.source):
            continue  # at its native size a frame stays what it is
        frames = source[torch.stack([m.source for m in alike]).to(source.device)]
        made = _resample(frames, first.grid, first, lead)
        out[torch.cat([m.target for m in alike]).to(out.device)] = made.flatten(0, 1)
    kept = out[placement.keep.to(out.device)]
    return kept if rows is None else kept[:, lead:]


def rows_of_unpooled(placement: Placement, features: Tensor, frames: FrameGrids) -> Tensor:
    """New rows of a view whose frames are resampled before the model's own pooling; all pass once through the rest.

    A frame that the model would pool to the same size in the same way keeps the model's own rows.
    """
    out = features.clone()
    todo = [m for m in placement.moves if not (m.operator == frames.pooling and m.size == m.grid)]
    same = [m for m in placement.moves if m.operator == frames.pooling and m.size == m.grid]
    for m in same:
        out[m.target.to(out.device)] = features[m.source.to(out.device)]
    made, targets = [], []
    for alike in _batches(todo):
        rows = frames.rows[torch.tensor([m.frame for m in alike], device=frames.rows.device)]
        made.append(_resample(rows, frames.grid, alike[0], None).flatten(0, 1))
        targets += [m.target for m in alike]
    if made:
        new = frames.finish(torch.cat(made))
        out[torch.cat(targets).to(out.device)] = new.to(out)
    return out[placement.keep.to(out.device)]


def _resample(rows: Tensor, grid: tuple[int, int] | None, move: Move, lead: int | None) -> Tensor:
    if move.size is None:
        return shrink(rows, len(move.target), move.operator, lead)
    assert grid is not None
    return resize(rows.unflatten(1, grid), move.size, move.operator, lead)


def _batches(moves: list[Move]) -> list[list[Move]]:
    found: dict[Any, list[Move]] = {}
    for m in moves:
        found.setdefault(m.kind, []).append(m)
    return list(found.values())
