"""Which column of a forward exists in which decoder layer, and at which position; rows that are added later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .layout import Packing, Segment


def full(rows: int, columns: int, device: torch.device) -> Tensor:
    """All true: bool [rows, columns]."""
    return torch.ones(rows, columns, dtype=torch.bool, device=device)


@dataclass
class TokenLayout:
    """Columns of one forward: *logical* ones as the caller sees them, *physical* ones as layers do.

    Attributes
    ----------
    real : BoolTensor [B, L]
        Logical columns that hold a token, not padding.
    visual : BoolTensor [B, L]
        Those that hold a visual token.
    segments : list of Segment
        What the layers from ``start`` on see; the last one is at work.
    positions : LongTensor [B, L] or [3, B, L] or None
        Position ids of all logical columns before anything was dropped.
    samples : LongTensor [B, L] or None
        Ordinal of the sample in a packed row each column belongs to; None: a row is one sample.
    gone : dict of int to LongTensor [B, L]
        Columns dropped up to each one, from a layer on: what 1-D positions are closed up by there.
    """

    real: Tensor
    visual: Tensor
    segments: list[Segment] = field(default_factory=list)
    positions: Tensor | None = None
    samples: Tensor | None = None
    gone: dict[int, Tensor] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Rows."""
        return self.real.shape[0]

    @property
    def length(self) -> int:
        """Logical columns L."""
        return self.real.shape[1]

    @property
    def now(self) -> Segment:
        """Segment at work."""
        return self.segments[-1]

    def at(self, layer: int) -> Segment:
        """Segment that decoder layer ``layer`` runs in."""
        return [s for s in self.segments if s.start <= layer][-1]

    def whole(self, padded: bool) -> None:
        """Nothing is dropped before the first layer; ``padded``: some column is no token."""
        self.segments = [Segment(0, None, self.real if padded else None, self.length)]

    def drop(self, layer: int, keep: Tensor, renumber: bool) -> Packing:
        """Drop what ``keep`` (bool [B, L]) does not hold from ``layer`` on; returns the gather of physical columns."""
        if not self.segments:
            inner = whole = Packing.build(keep)
        else:
            now = self.now
            columns = keep if now.packing is None else now.packing.take(keep)
            inner = Packing.build(columns if now.valid is None else columns & now.valid)
            whole = inner if now.packing is None else now.packing.then(inner)
        self.segments.append(Segment(layer, whole, inner.valid, inner.width))
        if renumber:
            self.gone[layer] = (~keep & self.real).long().cumsum(1)
        return inner

    def take(self, x: Tensor, dim: int = 1, segment: Segment | None = None) -> Tensor:
        """Logical columns of ``x`` along ``dim`` as the physical ones of a segment (the one at work)."""
        packing = (segment or self.now).packing
        return x if packing is None else packing.take(x, dim)

    def place(self, columns: Tensor) -> Tensor:
        """Physical places [B, N] of logical columns [B, N]; of dropped ones, some place."""
        packing = self.now.packing
        columns = columns.clamp_min(0)
        return columns if packing is None else packing.places().to(columns.device).gather(1, columns).clamp_min(0)

    def unfold(self, stat: Tensor) -> Tensor:
        """Physical columns of a statistic [..., K] as logical ones [..., L]; dropped ones hold some value."""
        packing = self.now.packing
        return stat if packing is None else stat.gather(-1, packing.places().clamp_min(0).to(stat.device))

    def closed_up(self, segment: Segment) -> Tensor:
        """Positions of all logical columns in a segment, gaps closed where its method asked for that."""
        if self.positions is None:
            raise ValueError("The positions of this forward were not noted.")
        gone = self._gone(segment.start)
        return self.positions if gone is None else self.positions - gone

    def shift(self, segment: Segment) -> Tensor | None:
        """What positions behind this forward are to be reduced by in a segment: LongTensor [B] or None."""
        gone = self._gone(segment.start)
        return None if gone is None else gone[:, -1]

    def _gone(self, start: int) -> Tensor | None:
        starts = [s for s in self.gone if s <= start]
        return self.gone[max(starts)] if starts else None

    def shown(self, segment: Segment) -> Tensor:
        """Contiguous ids of the physical columns, one run per sample: what mask code may read: [B, K].

        Mask functions and flash attention take a gap in position ids for a border between packed samples, so ids with
        the gaps of dropped tokens must not reach them.
        """
        count = torch.arange(segment.width, device=self.real.device).expand(self.batch, -1)
        if self.samples is None:
            first = self.take(self._flat_positions(), segment=segment)[:, :1]
            return first + count
        sample = self.apart(segment)
        fresh = torch.ones_like(sample, dtype=torch.bool)
        fresh[:, 1:] = sample[:, 1:] != sample[:, :-1]
        return count - torch.where(fresh, count, 0).cummax(1).values

    def apart(self, segment: Segment) -> Tensor:
        """Ordinal of the sample of each physical column of packed rows, -1 for padding: [B, K]."""
        if self.samples is None:
            raise ValueError("The rows of this forward are not packed.")
        sample = self.take(self.samples, segment=segment)
        return sample if segment.valid is None else sample.masked_fill(~segment.valid.to(sample.device), -1)

    def _flat_positions(self) -> Tensor:
        if self.positions is None or self.positions.ndim == 3:
            return torch.zeros_like(self.real, dtype=torch.long)
        return self.positions

    def kept_tail(self, segment: Segment) -> int:
        """Columns at the end that every row kept."""
        if segment.packing is None:
            return segment.width
        taken = segment.packing.taken()
        kept = (taken | ~self.real.to(taken.device)).all(0)
        return int(kept.flip(0).long().cumprod(0).sum())

    def counts(self) -> list[tuple[int, list[int]]]:
        """``(first layer, tokens per row)`` of every segment."""
        real = self.real.sum(1).tolist()
        out = []
        for s in self.segments:
            tokens = real if s.packing is None else self.take(self.real, segment=s)
            if isinstance(tokens, Tensor):
                tokens = (tokens if s.valid is None else tokens & s.valid.to(tokens.device)).sum(1).tolist()
            out.append((s.start, tokens))
        return out


@dataclass
class AddedRows:
    """Rows a model adds to visual tokens after its early decoder layers (deepstack).

    Parameters
    ----------
    columns : BoolTensor [B, L]
        Where they are added, in logical columns.
    levels : list of Tensor [n, D]
        One per early layer, in the order of ``columns``.
    """

    columns: Tensor
    levels: list[Tensor]

    def merged(self, row: int, old: Tensor, new: Tensor, merge: Callable[[Tensor], Tensor]) -> None:
        """Do to the rows of columns ``old`` of one row what was done to the features; they become those of ``new``."""
        place = (self.columns.flatten().cumsum(0) - 1).view(self.columns.shape)
        sources, targets = place[row, old], place[row, new]
        for i, level in enumerate(self.levels):
            changed = level.clone()
            changed[targets.to(level.device)] = merge(level[sources.to(level.device)]).to(level.dtype)
            self.levels[i] = changed

    def kept(self, layout: TokenLayout) -> AddedRows:
        """Rows of what the segment at work holds, their columns physical there."""
        packing = layout.now.packing
        if packing is None:
            return self
        taken = packing.taken()
        inside = taken[self.columns.to(taken.device)]
        columns = packing.take(self.columns.to(taken.device))
        columns = columns if packing.valid is None else columns & packing.valid
        return AddedRows(columns, [level[inside.to(level.device)] for level in self.levels])

    def add(self, level: int, hidden: Tensor) -> Tensor:
        """Add one level to the rows of its layer's output [B, K, D]; ``columns`` must be physical."""
        columns = self.columns.to(hidden.device)
        hidden = hidden.clone()
        hidden[columns] = hidden[columns] + self.levels[level].to(hidden.device, hidden.dtype)
        return hidden
