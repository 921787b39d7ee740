"""Let a stage decide on the images of a forward: assemble what it sees, check what it chose."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..core.stage import Decoder, Encoder, FrameGrids, Need, Selection, Stage, View
from .forward import Forward
from .teams import Member, members, note, row_budget, survive


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

    def __init__(
        self, forward: Forward, stage: Stage, rows: Tensor, where: Tensor | None, memory: Callable[[int], dict]
    ) -> None:
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
            text=rows[row, self._text(row, stage.needs_text == "question")] if stage.needs_text else None,
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

    def _text(self, row: int, behind: bool) -> Tensor:
        """Physical columns of the text of a row's prompt; ``behind``: behind its last visual token alone."""
        layout, end = self.forward.tokens, self.forward.end
        place = torch.arange(layout.length, device=layout.real.device)
        text = layout.real[row] & ~layout.visual[row]
        if end is not None:  # what is kept must not depend on a completion behind the prompt
            text = text & (place <= end[row])
        if behind:
            text = text & (place > torch.where(layout.visual[row], place, -1).max())
        return self.physical(row, text.nonzero(as_tuple=True)[0])

    def run(self, layer: int) -> Tensor | None:
        """Let the stage decide on every image; returns the rows with merged values written in, None when none were.

        Updates ``alive`` of every place and the logs.
        """
        images = self.forward.images
        merged: Tensor | None = None
        kept: dict[int, list[Tensor]] = {}
        teams = list(members(images, self.stage))
        if not teams and images.places:
            self._warn()
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
            note(team, choice, kept)
        survive(images, kept, layer)
        if merged is not None and images.expand > 1:
            merged = merged[:: images.expand].repeat_interleave(images.expand, 0)
        return merged

    def _warn(self) -> None:
        """Say that nothing of this prompt is of a kind that the stage acts on."""
        left = [p for p in self.forward.images.places if p.unit.modality not in self.stage.modalities]
        if left:
            warnings.warn(
                f"The stage {stage_name(self.stage)} acts on {' and '.join(self.stage.modalities)}s only: the "
                f"{len(left)} {left[0].unit.modality}(s) of this prompt were left whole. Use a method for both, such "
                "as 'divprune' or 'vtc-cls'.",
                UserWarning,
                stacklevel=2,
            )

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
