"""Find the images of a prompt, let stages decide on them, and note what survived."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtc.adapters import EncodeRecord

from ..core.image import ImageRecord, Place
from ..core.stage import Decoder, Encoder, FrameGrids, Need, Selection, Stage, View
from .forward import Forward, Images


def locate(images: Images, batch: int) -> None:
    """Find every image's columns.

    Feature rows fill placeholders in (row, column) order, modality by modality; ``generate`` repeats rows for beams but
    encodes each image once, so only the first of each run of equal rows is looked at.

    Raises
    ------
    ValueError
        Placeholders and encoded rows do not fit together.
    """
    places: list[Place] = []
    expands = set()
    for number, record in enumerate(images.records):
        mask = images.placeholders.get(record.modality)
        total = 0 if mask is None else int(mask.sum())
        if mask is None or record.rows == 0 or total % record.rows or batch % max(1, total // record.rows):
            raise ValueError(
                f"{total} {record.modality} placeholder tokens in a batch of {batch}, but {record.rows} encoded "
                f"{record.modality} rows: the prompt and the pixels do not belong together."
            )
        expands.add(total // record.rows)
        places += _of_record(record, number, mask, total // record.rows)
    if len(expands) > 1:
        raise ValueError(f"Images and videos of one batch are repeated differently ({sorted(expands)} times).")
    images.expand = expands.pop() if expands else 1
    images.places = _ordered(places)


def _of_record(record: EncodeRecord, number: int, mask: Tensor, expand: int) -> list[Place]:
    places, units, start = [], iter(record.units), 0
    for row in range(0, mask.shape[0], expand):
        columns = mask[row].nonzero(as_tuple=True)[0]
        used = 0
        while used < len(columns):
            unit = next(units)
            if used + unit.length > len(columns):
                raise ValueError(
                    f"Row {row}: its {len(columns)} {record.modality} tokens do not end where an "
                    f"{record.modality} ends."
                )
            alive = torch.arange(unit.length, device=columns.device)
            log = ImageRecord(row, 0, record.modality, unit)
            if record.alive is not None:
                alive = alive[record.alive[start : start + unit.length].to(columns.device)]
                log.note(0, alive)
            places.append(Place(unit, row, columns[used : used + unit.length], number, start, alive, log))
            used += unit.length
            start += unit.length
    return places


def _ordered(places: list[Place]) -> list[Place]:
    """Sort by row and first column and number the images of each row."""
    places.sort(key=lambda p: (p.row, int(p.columns[0])))
    ordinal: dict[int, int] = {}
    for place in places:
        place.log.image = ordinal.get(place.row, 0)
        ordinal[place.row] = place.log.image + 1
    return places


@dataclass(frozen=True)
class Member:
    """Part of a view: positions ``index`` [M] in ``place.alive``."""

    place: Place
    index: Tensor

    @property
    def tokens(self) -> Tensor:
        """Indices inside the image."""
        return self.place.alive[self.index]

    @property
    def columns(self) -> Tensor:
        """Logical columns in the row."""
        return self.place.columns[self.tokens]


def members(images: Images, stage: Stage) -> Iterator[list[Member]]:
    """Split the living tokens into the decisions the stage's scope asks for."""
    places = [p for p in images.places if p.unit.modality in stage.modalities and len(p.alive)]
    if stage.scope == "clip":
        yield from _clips(places)
    elif stage.scope == "row":
        for row in sorted({p.row for p in places}):
            yield [_whole(p) for p in places if p.row == row]
    elif stage.scope == "frame":
        for place in places:
            part = place.unit.filled().part
            inside = torch.zeros_like(place.alive) if part is None else part.to(place.alive.device)[place.alive]
            for p in inside.unique().tolist():
                yield [Member(place, (inside == p).nonzero(as_tuple=True)[0])]
    else:
        yield from ([_whole(p)] for p in places)


def _clips(places: list[Place]) -> Iterator[list[Member]]:
    for row in sorted({p.row for p in places}):
        mine = [p for p in places if p.row == row]
        videos = [p for p in mine if p.unit.modality == "video"]
        yield from ([_whole(p)] for p in videos)
        if not videos:
            yield [_whole(p) for p in mine]


def _whole(place: Place) -> Member:
    return Member(place, torch.arange(len(place.alive), device=place.alive.device))


def row_budget(count: Any, sizes: list[int], n: int) -> int:
    """Budget of a decision over several images: the sum of the images' own budgets."""
    return min(n, sum(count(size) for size in sizes)) if n == sum(sizes) else min(n, count(n))


class Deciding:
    """One stage at work on the rows of its depth.

    Parameters
    ----------
    forward : Forward
    stage : Stage
    rows : Tensor [B, K, D]
        Rows of this depth.
    where : LongTensor [B, L] or None
        Physical column of every logical one; None: identity.
    memory : callable
        ``memory(row)``: what the method remembers of a row.
    """

    def __init__(self, forward: Forward, stage: Stage, rows: Tensor, where: Tensor | None, memory: Any) -> None:
        self.forward, self.stage, self.rows, self.where, self.memory = forward, stage, rows, where, memory

    def physical(self, row: int, columns: Tensor) -> Tensor:
        """Physical columns of logical ones."""
        return columns if self.where is None else self.where[row, columns]

    def view(self, team: list[Member]) -> View:
        """Assemble what the stage sees.

        Raises
        ------
        ValueError
            Rows that are not finite: every score computed from them would be noise.
        """
        stage, rows, images = self.stage, self.rows, self.forward.images
        units = [m.place.unit.filled() for m in team]
        row = team[0].place.row
        columns = torch.cat([m.columns for m in team])
        sizes = [len(m.index) for m in team]
        keep_count = stage.keep_count if len(team) == 1 else partial(row_budget, stage.keep_count, sizes)
        features = rows[row, self.physical(row, columns).to(rows.device)]
        if not bool(torch.isfinite(features).all()):
            raise ValueError(
                f"Rows of visual tokens {stage_name(stage)} are not finite (NaN or infinite): no method can rank them. "
                "Look at the weights and the dtype of the model; bfloat16 or float32 avoid overflow in float16."
            )

        def column(name: str) -> Tensor:
            return torch.cat([getattr(u, name).to(rows.device)[m.tokens] for u, m in zip(units, team, strict=True)])

        every = torch.cat([m.place.columns for m in team])
        return View(
            features=features,
            unit=torch.arange(len(team), device=rows.device).repeat_interleave(torch.tensor(sizes, device=rows.device)),
            part=column("part"),
            cell=column("cell"),
            role=column("role"),
            units=units,
            keep_count=keep_count,
            stats={need: self._stat(need, team, columns) for need in stage.needs},
            row=row,
            image=team[0].place.image,
            text=rows[row, self._text(row)] if stage.needs_text else None,
            total=sum(u.length for u in units),
            state=self.memory(row),
            scratch=self.forward.scratch.setdefault(row, {}),
            scored=images.scored,
            unpooled=self._unpooled(team) if stage.unpooled else None,
            apart=stage.scope == "clip" and bool((every.diff() > 1).any()),
        )

    def _unpooled(self, team: list[Member]) -> FrameGrids | None:
        """Frames of the one video of a view as they were before the model pooled them."""
        place = team[0].place
        record: Any = self.forward.images.records[place.record]
        if len(team) > 1 or record.frames is None:
            return None
        number = next(i for i, unit in enumerate(record.units) if unit is place.unit)
        start = sum(len(unit.filled().part_grids) for unit in record.units[:number])
        count = len(place.unit.filled().part_grids)
        return replace(record.frames, rows=record.frames.rows[start : start + count])

    def _stat(self, need: Need, team: list[Member], columns: Tensor) -> Tensor:
        if need.tower == "decoder":
            stat = self.forward.meter.stats[need][team[0].place.row]
            return stat[columns] if need.statistic.per_token else stat
        values = []
        for m in team:
            stats = self.forward.images.records[m.place.record].stats
            if need not in stats:
                raise ValueError(
                    f"The features of this forward were not measured ({need.stat!r}, encoder layer {need.layer}): "
                    "they were encoded before the model was patched. Encode them again."
                )
            values.append(stats[need][m.place.start + m.tokens])
        return torch.cat(values)

    def _text(self, row: int) -> Tensor:
        """Physical columns of the real tokens of a row that are not visual placeholders."""
        layout = self.forward.tokens
        columns = (layout.real[row] & ~layout.visual[row]).nonzero(as_tuple=True)[0]
        return self.physical(row, columns)

    def run(self, layer: int) -> Tensor | None:
        """Let the stage decide on every image; returns the rows with merged values written in, None when none were.

        Updates ``alive`` of every place and the logs.
        """
        images = self.forward.images
        merged: Tensor | None = None
        kept: dict[int, list[Tensor]] = {}
        teams = list(members(images, self.stage))
        for number, team in enumerate(teams):
            view = self.view(team)
            view.clip, view.clips = number, len(teams)
            choice = self._choose(view)
            if choice.values is not None:
                merged = self.rows.clone() if merged is None else merged
                columns = torch.cat([m.columns for m in team])
                inside = self.physical(view.row, columns[choice.keep])
                merged[view.row, inside] = choice.values.to(merged.dtype)
                self._merge_added(view.row, columns, choice)
            _note(team, choice, kept)
        _survive(images, kept, layer)
        if merged is not None and images.expand > 1:
            merged = merged[:: images.expand].repeat_interleave(images.expand, 0)
        return merged

    def _choose(self, view: View) -> Selection:
        if view.budget >= view.n:
            # a budget that covers everything changes nothing: newlines, which methods may drop unasked, stay as well
            return Selection(torch.arange(view.n, device=view.features.device))
        choice = self.stage.select(view)
        keep = choice.keep
        if keep.ndim != 1 or keep.dtype != torch.long or len(keep) > view.n:
            raise TypeError(
                f"A stage at {self.stage.at} must return increasing token indices, got {keep.dtype} "
                f"{tuple(keep.shape)}."
            )
        return choice

    def _merge_added(self, row: int, columns: Tensor, choice: Selection) -> None:
        """Do to rows that the model adds after early layers (deepstack) what was done to the features."""
        added, expand = self.forward.added, self.forward.images.expand
        merge = choice.merging()
        if added is None or merge is None:
            return
        for same in range(row, row + expand):
            added.merged(same, columns, columns[choice.keep], merge)


def stage_name(stage: Stage) -> str:
    """Where a stage acts, in words."""
    if isinstance(stage.at, Encoder):
        return f"before block {stage.at.layer} of the vision tower"
    return f"before decoder layer {stage.at.layer}" if isinstance(stage.at, Decoder) else "after the projector"


def _note(team: list[Member], choice: Selection, kept: dict[int, list[Tensor]]) -> None:
    start = 0
    for m in team:
        n = len(m.index)
        inside = (choice.keep >= start) & (choice.keep < start + n)
        kept.setdefault(id(m.place), []).append(m.index[choice.keep[inside] - start])
        log, tokens = m.place.log, m.tokens
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


def _survive(images: Images, kept: dict[int, list[Tensor]], layer: int) -> None:
    for place in images.places:
        if id(place) in kept:
            index = torch.cat(kept[id(place)]).sort().values
            if len(index) < len(place.alive):
                place.alive = place.alive[index.to(place.alive.device)]
        place.log.note(layer, place.alive)


def keep_mask(forward: Forward, device: Any) -> Tensor:
    """Logical columns that survive so far: bool [B, L], true for text."""
    layout, images = forward.tokens, forward.images
    keep = torch.ones(layout.batch, layout.length, dtype=torch.bool, device=device)
    for place in images.places:
        keep[place.row, place.columns] = False
        keep[place.row, place.columns[place.alive]] = True
    if images.expand > 1:
        keep = keep[:: images.expand].repeat_interleave(images.expand, 0)
    return keep
