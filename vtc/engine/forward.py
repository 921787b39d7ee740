"""What one forward of a patched model knows, from its start to its end."""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ..core.image import Place
from ..core.prompt import Prompt
from ..core.stage import Need
from ..core.tokens import AddedRows, TokenLayout
from .clock import Clock
from .scope import Scope
from .types import Cache
from .wrapping import Wrapped

if TYPE_CHECKING:
    from vtc.adapters import EncodeRecord

    from .measure.tap import Collector
    from .plan import Plan


@dataclass
class Images:
    """Images of a forward: what the encoder said of them, and where they lie.

    Attributes
    ----------
    records : list of EncodeRecord
    placeholders : dict of str to BoolTensor [B, L]
        Columns per modality.
    places : list of Place
        One per image, in order of row and column; empty until the decoder has been reached.
    expand : int
        How often each prompt stands in the batch (beams, several samples per prompt).
    scored : list of Tensor or None
        What a scorer gave for the clips of this call.
    """

    records: list[EncodeRecord] = field(default_factory=list)
    placeholders: dict[str, Tensor] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    expand: int = 1
    scored: list[Tensor] | None = None

    def columns(self, like: Tensor) -> Tensor:
        """Placeholders of all modalities: bool [B, L]."""
        masks = [mask.to(like.device) for mask in self.placeholders.values()]
        return torch.stack(masks).any(0) if masks else torch.zeros_like(like)


@dataclass
class Past:
    """The cache a forward runs on.

    Attributes
    ----------
    cache : object or None
    held : int
        Tokens per row it held before.
    valid : dict of int to BoolTensor [B, P] or None
        Which stored columns of a layer are real; None: all.
    before : dict of int to int
        Tokens per row that a layer held before.
    """

    cache: Cache | None = None
    held: int = 0
    valid: dict[int, Tensor | None] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)


@dataclass
class Meter:
    """What was measured inside of a forward."""

    stats: dict[Need, Tensor] = field(default_factory=dict)
    collector: Collector | None = None


class Planner(Protocol):
    """Who knows the plan of a call: a handle."""

    def plan(self) -> Plan:
        """Methods and stages as they stand now."""


@dataclass
class Forward:
    """State of one forward: made at its start, gone at its end.

    Attributes
    ----------
    handle : object
        The patch it runs under; compared by identity only.
    end : LongTensor [B] or None
        Logical column of the last prompt token of every row.
    """

    handle: Planner
    clock: Clock
    own_plan: Plan | None = None
    number: int = field(default_factory=itertools.count().__next__)
    seat: Wrapped | None = None
    """Wrapper that opened it: when that one is entered again, this forward is left over."""
    prompt: Prompt = field(default_factory=Prompt)
    images: Images = field(default_factory=Images)
    layout: TokenLayout | None = None
    past: Past = field(default_factory=Past)
    meter: Meter = field(default_factory=Meter)
    added: AddedRows | None = None
    finished: bool = False
    """The caller brought a mask of its own, so that none may be made anew."""
    request: int | Tensor | None = None
    """Columns whose logits are asked for, as an index of the first one from the end (negative), or None."""
    supervised: Tensor | None = None
    """First column of every row that has a label [B], L where none has."""
    end: Tensor | None = None
    scratch: dict[int, dict] = field(default_factory=dict)
    notes: dict[Any, Any] = field(default_factory=dict)
    """What listeners keep of this forward."""

    @property
    def plan(self) -> Plan:
        """Methods and stages, read once: nobody changes them under a running call."""
        if self.own_plan is None:
            self.own_plan = self.handle.plan()
        return self.own_plan

    @property
    def tokens(self) -> TokenLayout:
        """Layout of a forward that has reached the decoder."""
        if self.layout is None:
            raise RuntimeError("This forward has not reached the decoder.")
        return self.layout

    @property
    def is_prefill(self) -> bool:
        """True for a forward with images."""
        return bool(self.images.places)

    def close(self) -> None:
        """End of the forward: cut the cycles it stands in, so that its tensors go at once."""
        self.notes.clear()
        self.meter, self.seat, self.added = Meter(), None, None


_CURRENT: Scope[Forward | None] = Scope("vtc_forward", None)


def current(handle: object) -> Forward | None:
    """Forward of ``handle`` that runs in this thread, None outside of its forwards."""
    forward = _CURRENT.get()
    return forward if forward is not None and forward.handle is handle else None


def running(forward: Forward | None) -> AbstractContextManager[Forward | None]:
    """Make ``forward`` the one that runs in this thread; None hides the one that does.

    Whatever ends it, Ctrl-C as well, the one before is back.
    """
    return _CURRENT.bind(forward)
