"""Split the living tokens of a forward into the decisions that a stage's scope asks for, and note what they chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.image import Place
from ..core.stage import Selection, Stage
from .forward import Images


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


def row_budget(count: Callable[[int], int], sizes: list[int], n: int) -> int:
    """Budget of a decision over several images: the sum of the images' own budgets."""
    # After an earlier stage the images no longer have their own sizes: the budget is then that of what is left
    # together.
    return min(n, sum(count(size) for size in sizes)) if n == sum(sizes) else min(n, count(n))


def note(team: list[Member], choice: Selection, kept: dict[int, list[Tensor]]) -> None:
    """Write a choice into the records of its images, and into ``kept``, by image."""
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
            # Groups of a joint decision number the kept tokens of all its images; each record counts from its own
            # first.
            before = int((choice.keep < start).sum())
            mine = torch.where(mine < 0, mine, mine - before)
            log.raw_groups = _spread(log.raw_groups, log.before, tokens, mine, -1)
        start += n


def _spread(old: Tensor | None, size: int, tokens: Tensor, values: Tensor, fill: float) -> Tensor:
    out = values.new_full((size,), fill) if old is None else old.clone()
    out[tokens] = values.to(out.dtype)
    return out


def survive(images: Images, kept: dict[int, list[Tensor]], layer: int) -> None:
    """Reduce every image to what was kept of it, before decoder layer ``layer``."""
    for place in images.places:
        if id(place) in kept:
            index = torch.cat(kept[id(place)]).sort().values
            if len(index) < len(place.alive):
                place.alive = place.alive[index.to(place.alive.device)]
        place.log.note(layer, place.alive)
