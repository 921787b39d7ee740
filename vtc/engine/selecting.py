"""Run one stage over the images of a forward: build views, ask the method, note what survived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core.stage import FrameGrids, Need, Selection, Stage, View
from .call import Call, Group


@dataclass(frozen=True)
class Member:
    """Part of a view: positions ``index`` [M] in ``group.alive``."""

    group: Group
    index: Tensor

    @property
    def tokens(self) -> Tensor:
        """Indices inside the unit."""
        return self.group.alive[self.index]

    @property
    def columns(self) -> Tensor:
        """Logical columns in the row."""
        return self.group.span.cols[self.tokens]


def members(call: Call, stage: Stage) -> Iterator[list[Member]]:
    """Split the living tokens into the decisions the stage's scope asks for."""
    groups = [g for g in call.groups if g.span.unit.modality in stage.modalities and len(g.alive)]
    if stage.scope == "clip":
        yield from _clips(groups)
        return
    if stage.scope == "row":
        for row in sorted({g.span.row for g in groups}):
            yield [_whole(g) for g in groups if g.span.row == row]
        return
    for g in groups:
        if stage.scope == "frame":
            part = g.span.unit.filled().part
            assert part is not None
            inside = part.to(g.alive.device)[g.alive]
            for p in inside.unique().tolist():
                yield [Member(g, (inside == p).nonzero(as_tuple=True)[0])]
        else:
            yield [_whole(g)]


def _clips(groups: list[Group]) -> Iterator[list[Member]]:
    for row in sorted({g.span.row for g in groups}):
        mine = [g for g in groups if g.span.row == row]
        videos = [g for g in mine if g.span.unit.modality == "video"]
        yield from ([_whole(g)] for g in videos)
        if not videos:
            yield [_whole(g) for g in mine]


def _whole(group: Group) -> Member:
    return Member(group, torch.arange(len(group.alive), device=group.alive.device))


def row_budget(count: Any, sizes: list[int], n: int) -> int:
    """Budget of a decision over several images: the sum of the images' own budgets."""
    return min(n, sum(count(size) for size in sizes)) if n == sum(sizes) else min(n, count(n))


def build_view(call: Call, stage: Stage, team: list[Member], rows: Tensor, place: Tensor | None, state: Any) -> View:
    """Assemble what a stage sees.

    Parameters
    ----------
    rows : Tensor [B, K, D]
        Rows of this depth.
    place : LongTensor [B, L] or None
        Physical column of every logical one; None: identity.
    """
    units = [m.group.span.unit.filled() for m in team]
    row = team[0].group.span.row
    columns = torch.cat([m.columns for m in team])
    physical = columns if place is None else place[row, columns]
    sizes = [len(m.index) for m in team]
    keep_count = stage.keep_count if len(team) == 1 else partial(row_budget, stage.keep_count, sizes)

    def column(name: str) -> Tensor:
        picked = [getattr(u, name).to(rows.device)[m.tokens] for u, m in zip(units, team, strict=True)]
        return torch.cat(picked)

    return View(
        features=rows[row, physical.to(rows.device)],
        unit=torch.arange(len(team), device=rows.device).repeat_interleave(torch.tensor(sizes, device=rows.device)),
        part=column("part"),
        cell=column("cell"),
        role=column("role"),
        units=units,
        keep_count=keep_count,
        stats={need: _stat(call, need, team, columns) for need in stage.needs},
        row=row,
        image=team[0].group.span.image,
        text=rows[row, text_columns(call, row, place)] if stage.needs_text else None,
        total=sum(u.length for u in units),
        state=state(row),
        scratch=call.scratch.setdefault(row, {}),
        scored=call.scored,
        unpooled=_unpooled(call, team) if stage.unpooled else None,
        apart=stage.scope == "clip" and bool((torch.cat([m.group.span.cols for m in team]).diff() > 1).any()),
    )


def _unpooled(call: Call, team: list[Member]) -> FrameGrids | None:
    """Frames of the one video of a view as they were before the model pooled them."""
    span = team[0].group.span
    record = call.records[span.record]
    if len(team) > 1 or getattr(record, "frames", None) is None:
        return None
    number = next(i for i, unit in enumerate(record.units) if unit is span.unit)
    start = sum(len(unit.filled().part_grids) for unit in record.units[:number])
    count = len(span.unit.filled().part_grids)
    return replace(record.frames, rows=record.frames.rows[start : start + count])


def _stat(call: Call, need: Need, team: list[Member], columns: Tensor) -> Tensor:
    if need.stat == "masses":
        return call.stats[need][team[0].group.span.row]
    if need.tower == "decoder":
        return call.stats[need][team[0].group.span.row, columns]
    values = []
    for m in team:
        stats = call.records[m.group.span.record].stats
        if need not in stats:
            raise ValueError(
                f"The features of this forward were not measured ({need.stat!r}, encoder layer {need.layer}): "
                "they were encoded before the model was patched. Encode them again."
            )
        values.append(stats[need][m.group.span.start + m.tokens])
    return torch.cat(values)


def text_columns(call: Call, row: int, place: Tensor | None) -> Tensor:
    """Physical columns of the real tokens of ``row`` that are not visual placeholders."""
    assert call.real is not None
    text = call.real[row].clone()
    for mask in call.placeholders.values():
        text &= ~mask[row]
    columns = text.nonzero(as_tuple=True)[0]
    return columns if place is None else place[row, columns]


def run_stage(call: Call, stage: Stage, layer: int, rows: Tensor, place: Tensor | None, state: Any) -> Tensor | None:
    """Let a stage decide on every image; returns the rows with merged values written in, None when none were.

    Updates ``alive`` of every group and the logs.
    """
    merged: Tensor | None = None
    kept: dict[int, list[Tensor]] = {}
    with torch.no_grad():
        teams = list(members(call, stage))
    for number, team in enumerate(teams):
        view = build_view(call, stage, team, rows, place, state)
        view.clip, view.clips = number, len(teams)
        # a budget that covers everything changes nothing: newlines, which methods may drop unasked, stay as well
        choice = Selection(torch.arange(view.n, device=rows.device)) if view.budget >= view.n else stage.select(view)
        _check(choice, view, stage)
        if choice.values is not None:
            merged = rows.clone() if merged is None else merged
            columns = torch.cat([m.columns for m in team])[choice.keep]
            physical = columns if place is None else place[view.row, columns]
            merged[view.row, physical] = choice.values.to(merged.dtype)
            if choice.remap is not None:
                every = torch.cat([m.columns for m in team])
                call.remaps.append((view.row, every, columns, choice.remap))
        _note(team, choice, kept)
    _survive(call, kept, layer)
    if merged is not None and call.expand > 1:
        merged = merged[:: call.expand].repeat_interleave(call.expand, 0)
    return merged


def _check(choice: Selection, view: View, stage: Stage) -> None:
    keep = choice.keep
    if keep.ndim != 1 or keep.dtype != torch.long or len(keep) > view.n:
        raise TypeError(
            f"A stage at {stage.at} must return increasing token indices, got {keep.dtype} {tuple(keep.shape)}."
        )


def _note(team: list[Member], choice: Selection, kept: dict[int, list[Tensor]]) -> None:
    start = 0
    for m in team:
        n = len(m.index)
        inside = (choice.keep >= start) & (choice.keep < start + n)
        kept.setdefault(id(m.group), []).append(m.index[choice.keep[inside] - start])
        log, tokens = m.group.log, m.tokens
        if choice.scores is not None:
            log.raw_scores = _spread(log.raw_scores, log.before, tokens, choice.scores[start : start + n], torch.nan)
        if choice.groups is not None:
            mine = choice.groups[start : start + n]
            before = int((choice.keep < start).sum())
            mine = torch.where(mine < 0, mine, mine - before)
            log.raw_groups = _spread(log.raw_groups, log.before, tokens, mine, -1)
        start += n


def _spread(old: Tensor | None, size: int, tokens: Tensor, values: Tensor, fill: Any) -> Tensor:
    out = values.new_full((size,), fill) if old is None else old.clone()
    out[tokens] = values.to(out.dtype)
    return out


def _survive(call: Call, kept: dict[int, list[Tensor]], layer: int) -> None:
    for g in call.groups:
        if id(g) in kept:
            index = torch.cat(kept[id(g)]).sort().values
            if len(index) < len(g.alive):
                g.alive = g.alive[index.to(g.alive.device)]
        g.log.cuts = [c for c in g.log.cuts if c[0] != layer] + [(layer, g.alive)]


def keep_mask(call: Call, batch: int, length: int, device: Any) -> Tensor:
    """Logical columns that survive so far: bool [B, L], true for text."""
    keep = torch.ones(batch, length, dtype=torch.bool, device=device)
    for g in call.groups:
        keep[g.span.row, g.span.cols] = False
        keep[g.span.row, g.span.cols[g.alive]] = True
    if call.expand > 1:
        keep = keep[:: call.expand].repeat_interleave(call.expand, 0)
    return keep
