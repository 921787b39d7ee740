"""Handle of a patched model: change the strength, read what happened, take everything off again."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vtc.adapters import Adapter

from ..config import Config
from ..core.budget import Keep
from ..core.frame_scores import FrameScores, plain_scores
from ..core.stage import ModelFacts
from ..methods.base import Method
from .checks import check_seams
from .clock import Clock
from .context import settings, settings_of
from .decoder import DecoderSpan
from .features import Features
from .forward import Forward, running
from .frames import Frames
from .gate import Tickets
from .installed import Installed, Part
from .listener import Listener
from .loose import Loose
from .masks import is_finished
from .measure.tap import nobody_collects
from .plan import Plan
from .policy.actions import Actions
from .policy.calls import EmbeddedPrompts
from .policy.expert import Expert
from .policy.memory import Remembering
from .prompts import columns_of
from .record import CallRecord
from .seams import find, renamed
from .site import Site
from .wrapping import Undo, Wrapped

if TYPE_CHECKING:
    from ..report import Report

PATIENCE = 1.0  # seconds an unpatch waits for calls of other threads before it refuses


class Handle(Remembering):
    """What :func:`vtc.patch` returns.

    Attributes
    ----------
    methods : list of Method
        In the order they act. They are the handle's own: change a field, and the next call runs with it.
    adapter : Adapter
    facts : ModelFacts
    last : CallRecord or None
        What happened in the last forward that brought images.
    state : State
        Memory of methods that keep one, a slot per row of the batch; see :meth:`reset`.
    reason : str
        Why ``method="auto"`` chose what it chose; empty otherwise.
    """

    def __init__(
        self,
        model: nn.Module,
        methods: Sequence[Method],
        adapter: Adapter,
        reason: str = "",
        processor: object = None,
        ask: Callable[[Any, Any, dict[str, Any]], Any] | None = None,
    ) -> None:
        super().__init__()
        self.methods = [copy.copy(m) for m in methods]
        for m in self.methods if processor is not None else ():
            m.processor = processor
        self.adapter, self.reason = adapter, reason
        self.facts: ModelFacts = adapter.facts(model)
        self.last: CallRecord | None = None
        self.loose, self._ask = Loose(), ask
        self._prefilled: float | None = None
        self._outside = Tickets()
        site, plan = Site(model, adapter, self.facts), Plan.of(self.methods, self.facts)
        self._outline = plan.outline
        check_seams(site, plan)
        self._listeners: list[Listener] = [Frames(self, site, self.methods, self._asked)]
        if plan.feedback is not None:
            self._listeners.append(Actions(self, site, plan.feedback))
        parts: list[Part] = [
            Features(self, site, plan),
            DecoderSpan(self, site, plan, self._listeners),
            *self._listeners,
            Expert(site),
            EmbeddedPrompts(self, site),
        ]
        self._installed = Installed(model, self, parts)

    # -- on and off ----------------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Hook the model; on any error leave it as it was."""
        self._installed.install(self._wrap_generate)

    def _wrap_generate(self, model: nn.Module, undo: Undo) -> None:
        if hasattr(type(model), "generate"):
            undo.wrap(model, "generate", self._generate)

    def _generate(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """A whole generation counts as one call: nobody takes the hooks away between two of its steps."""
        began, own = columns_of(find("ids", kwargs), *args[:1], find("embeds", kwargs)), find("mask", kwargs)
        with self._installed.gate.inside(), settings(self, generates=not is_finished(own), prompt=began):
            return seat.original(*args, **renamed(type(seat.owner).forward, kwargs))

    def remove(self, wait: float = PATIENCE) -> None:
        """Give the model back as it was before; harmless when called twice.

        Parameters
        ----------
        wait : float
            Seconds that calls of other threads get to end.

        Raises
        ------
        BusyError
            The model is running, here or in another thread. Nothing was changed.
        """
        self._installed.remove(wait)
        self._listeners = []

    @property
    def model(self) -> Any:
        """The patched model.

        Raises
        ------
        ValueError
            It is gone: it was unpatched and deleted.
        """
        return self._installed.model

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Run the unpatched model inside; caches made there are plain ones.

        It holds for the calls that this thread (or task) makes inside. For a thread started inside, run its target in
        ``contextvars.copy_context()``.
        """
        with self._outside.held(), settings(self, off=True), running(None), nobody_collects():
            yield

    @property
    def off(self) -> bool:
        """True where this thread (or task) is inside of :meth:`disabled`."""
        return settings_of(self).off

    @property
    def enabled(self) -> bool:
        """False while any thread is inside of :meth:`disabled`; only its own calls run unpatched."""
        return not self._outside.valid()

    # -- one call ------------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Methods and stages as they stand now, for one call.

        Raises
        ------
        ValueError
            A field was changed so that its method acts elsewhere.
        """
        plan = Plan.of(self.methods, self.facts)
        if plan.outline != self._outline:
            raise ValueError(
                "A hyperparameter was changed so that its method acts in other layers than it was patched for: "
                "call vtc.patch again."
            )
        if self.given_scores is not None:
            for m in (m for m in plan.methods if hasattr(m, "frame_scores")):
                m.frame_scores = self.given_scores
        return plan

    @contextmanager
    def call(self, device: torch.device, seat: Wrapped) -> Iterator[Forward]:
        """One forward, from its start to its end, however it ends.

        Parameters
        ----------
        device : torch.device
            Whose time is taken.
        seat : Wrapped
            The wrapper that opens it.
        """
        with self._installed.gate.inside():
            forward = Forward(self, Clock(device), seat=seat)
            forward.clock.start("forward")
            try:
                with running(forward), nobody_collects():
                    yield forward
            except BaseException:
                for listener in self._listeners:
                    listener.fail(forward)
                raise
            else:
                forward.clock.stop("forward")
                self._finish(forward)
            finally:
                forward.close()

    def _finish(self, forward: Forward) -> None:
        """End of a forward: keep time of the decode steps that follow a prefill."""
        now = time.perf_counter()
        if forward.is_prefill:
            self._prefilled = now
        elif self.last is not None and self._prefilled is not None:
            self.last.decode_steps += 1
            self.last.decode_seconds = now - self._prefilled

    def note(self, record: CallRecord) -> None:
        """Take the record of a prefill with images."""
        self.last = record

    # -- settings ------------------------------------------------------------------------------------------------------

    @contextmanager
    def frame_scores(self, scores: FrameScores) -> Iterator[None]:
        """Use these scores of frames inside the ``with`` block, whatever was given to :func:`vtc.patch`.

        They hold for the calls that this thread (or task) makes inside. For a thread started inside, run its target in
        ``contextvars.copy_context()``.

        Parameters
        ----------
        scores : Tensor [T], list of float, list of vectors, or "uniform"
            One vector when the batch holds one video, else a list with one per video, in order of rows and of places in
            the prompt. A row with images and no video counts as one video whose frames are its images.

        Raises
        ------
        TypeError, ValueError
            No method at work takes scores, or these are none.

        Examples
        --------
        >>> with handle.frame_scores(scores):
        ...     out = model.generate(**inputs)
        """
        if not any(hasattr(m, "frame_scores") for m in self.methods):
            names = ", ".join(m.name for m in self.methods)
            raise ValueError(f"{names} takes no scores of frames; vtc.patch(model, 'quota') does.")
        with settings(self, scores=plain_scores(scores)):
            yield

    @property
    def given_scores(self) -> Any:
        """Scores of frames that hold here, None without any."""
        return settings_of(self).scores

    def _asked(self, scorer: Any, inputs: dict[str, Any]) -> Any:
        if self._ask is None:
            raise ValueError("This handle was made without a way to ask scorers; use vtc.patch.")
        return self._ask(scorer, self, inputs)

    @property
    def keep(self) -> Keep:
        """Strength: share in (0, 1] or tokens per image; set it to change the next calls."""
        return self.methods[0].keep

    @keep.setter
    def keep(self, value: Keep) -> None:
        if len(self.methods) > 1:
            names = ", ".join(m.name for m in self.methods)
            raise ValueError(f"Several methods are at work ({names}): set handle.methods[i].keep on the one you mean.")
        self.methods[0].keep = value  # checked by the method itself

    @property
    def config(self) -> Config:
        """Configuration to save and to load again."""
        return Config([m.to_dict() for m in self.methods])

    def report(self) -> Report:
        """Tokens, FLOPs, KV bytes and times of the last forward that brought images.

        Raises
        ------
        ValueError
            No such forward has run yet.
        """
        from ..report import Report

        return Report.of(self)

    def __repr__(self) -> str:
        methods = " + ".join(f"{m.name}(keep={m.keep})" for m in self.methods)
        seen = "" if self.last is None else f", last call {self.last.before} -> {self.last.after} visual tokens"
        return f"<vtc {methods} on {self._installed.name} ({self.adapter.family}){seen}>"
