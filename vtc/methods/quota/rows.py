"""What is written into the slots of a placement."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.stage import FrameGrids
from .placement import Move, Placement
from .resample import resize, shrink


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
