"""What one forward of a patched model knows, and where its visual tokens lie."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..core.layout import Segment, VisualSpan
from .clock import Clock
from .record import SpanLog


@dataclass
class Group:
    """One unit of one (leading) row while tokens are being dropped: ``alive`` are indices inside the unit."""

    span: VisualSpan
    alive: Tensor
    log: SpanLog


@dataclass
class Call:
    """State of one forward: created at its start, gone at its end."""

    owner: Any
    engine: Any
    clock: Clock
    logits_to_keep: int = 1
    inputs: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the base model."""
    placeholders: dict[str, Tensor] = field(default_factory=dict)
    records: list[Any] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    expand: int = 1
    real: Tensor | None = None
    """Bool [B, L] of this forward's columns."""
    segments: list[Segment] = field(default_factory=list)
    past: Any = None
    cached: int = 0
    """Tokens per row that lay in the cache before this forward."""
    past_valid: dict[int, Tensor | None] = field(default_factory=dict)
    rotary_positions: Tensor | None = None
    positions: Tensor | None = None
    """Position ids of the full columns, before any gather."""
    gone: dict[int, Tensor] = field(default_factory=dict)
    """Where 1-D positions were closed up: columns dropped up to each one, [B, L], from a decoder layer on."""
    masks: dict[Any, Any] = field(default_factory=dict)
    blocks: Any = None
    """Pairs of columns a finished mask opens beyond causality: bool [B or 1, L, L], or a dict by layer type."""
    deepstack: tuple[Tensor, list[Tensor]] | None = None
    """Columns bool [B, L], and one tensor of rows per early layer, to be added by the engine."""
    stats: dict[Any, Tensor] = field(default_factory=dict)
    scratch: dict[int, dict] = field(default_factory=dict)
    tally: Any = None
    """What the action queries of this policy call have looked at so far."""
    collector: Any = None
    collect_token: Any = None
    token: Any = None


CALL: ContextVar[Call | None] = ContextVar("vtc_call", default=None)


def current(engine: Any) -> Call | None:
    """Call of ``engine`` in this thread, None outside of its forwards."""
    call = CALL.get()
    return call if call is not None and call.engine is engine else None


def locate(call: Call, batch: int) -> list[Group]:
    """Find every unit's columns.

    Feature rows fill placeholders in (row, column) order, modality by modality; ``generate`` repeats rows for beams but
    encodes each image once, so only the first of each run of equal rows is looked at.

    Raises
    ------
    ValueError
        Placeholders and encoded rows do not fit together.
    """
    groups: list[Group] = []
    expands = set()
    for number, record in enumerate(call.records):
        mask = call.placeholders[record.modality]
        total = int(mask.sum())
        if record.rows == 0 or total % record.rows or batch % max(1, total // record.rows):
            raise ValueError(
                f"{total} {record.modality} placeholder tokens in a batch of {batch}, but {record.rows} encoded "
                f"{record.modality} rows: the prompt and the pixels do not belong together."
            )
        expands.add(total // record.rows)
        groups += _units_of_rows(record, number, mask, total // record.rows)
    if len(expands) > 1:
        raise ValueError(f"Images and videos of one batch are repeated differently ({sorted(expands)} times).")
    call.expand = expands.pop() if expands else 1
    return _order(groups)


def _units_of_rows(record: Any, number: int, mask: Tensor, expand: int) -> list[Group]:
    groups, units, start = [], iter(record.units), 0
    for row in range(0, mask.shape[0], expand):
        cols = mask[row].nonzero(as_tuple=True)[0]
        used = 0
        while used < len(cols):
            unit = next(units)
            if used + unit.length > len(cols):
                raise ValueError(
                    f"Row {row}: its {len(cols)} {record.modality} tokens do not end where an {record.modality} ends."
                )
            span = VisualSpan(row, 0, unit, cols[used : used + unit.length], start, number)
            alive = torch.arange(unit.length, device=cols.device)
            if record.alive is not None:
                alive = alive[record.alive[start : start + unit.length].to(cols.device)]
            log = SpanLog(row, 0, record.modality, unit)
            if record.alive is not None:
                log.cuts.append((0, alive))
            groups.append(Group(span, alive, log))
            used += unit.length
            start += unit.length
    return groups


def _order(groups: list[Group]) -> list[Group]:
    """Sort by row and first column and number the images of each row."""
    groups.sort(key=lambda g: (g.span.row, int(g.span.cols[0])))
    ordinal: dict[int, int] = {}
    for g in groups:
        image = ordinal.get(g.span.row, 0)
        ordinal[g.span.row] = image + 1
        g.span = replace(g.span, image=image)
        g.log.image = image
    return groups
