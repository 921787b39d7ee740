"""Handle of a patched model: change the strength, read what happened, take everything off again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

from vtc.adapters import Adapter

from ..config import Config
from ..core.budget import Keep, check_keep
from ..core.stage import Decoder, Encoder, Feedback, ModelFacts, Stage
from ..methods.base import Method
from .actions import Actions
from .call import Call
from .decoder import DecoderEngine
from .encoder import EncoderEngine
from .memory import Remembering
from .record import CallRecord

if TYPE_CHECKING:
    from ..report import Report

ATTRIBUTE = "_vtc_handle"


class Handle(Remembering):
    """What :func:`vtc.patch` returns.

    Attributes
    ----------
    methods : list of Method
        In the order they act.
    adapter : Adapter
    facts : ModelFacts
    last : CallRecord or None
        What happened in the last forward that brought images.
    state : State
        Memory of methods that keep one, a slot per row of the batch; see :meth:`reset`.
    reason : str
        Why ``method="auto"`` chose what it chose; empty otherwise.
    """

    def __init__(self, model: nn.Module, methods: list[Method], adapter: Adapter, reason: str = "") -> None:
        super().__init__()
        self.model, self.methods, self.adapter, self.reason = model, methods, adapter, reason
        self.facts: ModelFacts = adapter.facts(model)
        self.last: CallRecord | None = None
        self._prefilled: float | None = None
        stages = [stage for method in methods for stage in method.stages(self.facts)]
        check_stages(stages, self.facts)
        feedback = the_feedback(methods, stages, self.facts)
        self._encoder = EncoderEngine(model, adapter, stages, self)
        self._decoder = DecoderEngine(model, adapter, stages, self, feedback)

    def install(self) -> None:
        """Hook the model; on any error leave it as it was."""
        try:
            self._encoder.install()
            self._decoder.install()
            self.model.__dict__[ATTRIBUTE] = self
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Give the model back as it was before; harmless when called twice."""
        self._decoder.remove()
        self._encoder.remove()
        if self.model.__dict__.get(ATTRIBUTE) is self:
            del self.model.__dict__[ATTRIBUTE]

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Run the unpatched model inside; caches made there are plain ones."""
        before = self._decoder.enabled, self._encoder.enabled
        self._decoder.enabled = self._encoder.enabled = False
        try:
            yield
        finally:
            self._decoder.enabled, self._encoder.enabled = before

    @property
    def actions(self) -> Actions:
        """What follows the action queries of a policy."""
        return self._decoder.actions

    @property
    def keep(self) -> Keep:
        """Strength: share in (0, 1] or tokens per image; set it to change the next calls."""
        return self.methods[0].keep

    @keep.setter
    def keep(self, value: Keep) -> None:
        if len(self.methods) > 1:
            names = ", ".join(m.name for m in self.methods)
            raise ValueError(f"Several methods are at work ({names}): set handle.methods[i].keep on the one you mean.")
        self.methods[0].keep = check_keep(value)

    @property
    def config(self) -> Config:
        """Configuration to save and to load again."""
        return Config([m.to_dict() for m in self.methods])

    def note(self, record: CallRecord) -> None:
        """Take the record of a prefill with images."""
        self.last = record

    def finish(self, call: Call) -> None:
        """End of a forward: keep time of the decode steps that follow a prefill."""
        now = time.perf_counter()
        if call.groups:
            self._prefilled = now
        elif self.last is not None and self._prefilled is not None:
            self.last.decode_steps += 1
            self.last.decode_seconds = now - self._prefilled

    def report(self) -> Report:
        """Tokens, FLOPs, KV bytes and times of the last forward that brought images.

        Raises
        ------
        ValueError
            No such forward has run yet.
        """
        from ..report import Report

        if self.last is None:
            raise ValueError("Nothing to report yet: run the patched model on an input with an image first.")
        return Report.of(self)

    def __repr__(self) -> str:
        methods = " + ".join(f"{m.name}(keep={m.keep})" for m in self.methods)
        seen = "" if self.last is None else f", last call {self.last.before} -> {self.last.after} visual tokens"
        return f"<vtc {methods} on {type(self.model).__name__} ({self.adapter.family}){seen}>"


def the_feedback(methods: list[Method], stages: list[Stage], facts: ModelFacts) -> Feedback | None:
    """Feedback of the one method that remembers; its memory is per visual token, so it must see all of them.

    Raises
    ------
    ValueError
        Another method is to run beside it.
    """
    found = [(m, f) for m in methods if (f := m.feedback(facts)) is not None]
    if found and len(methods) > 1:
        names = ", ".join(m.name for m in methods)
        raise ValueError(
            f"{found[0][0].name!r} remembers every visual token over calls, so no other method may drop any: patch it "
            f"alone, not with {names}, or with temporal=False, which remembers nothing."
        )
    return found[0][1] if found else None


def check_stages(stages: list[Stage], facts: ModelFacts) -> None:
    """Raise a ValueError that says why stages cannot act where they want to."""
    for stage in stages:
        place = stage.at
        if isinstance(place, Decoder):
            if not 0 < place.layer < facts.decoder_layers:
                raise ValueError(
                    f"Cannot cut before decoder layer {place.layer}: the decoder has {facts.decoder_layers} layers, "
                    f"choose 1 .. {facts.decoder_layers - 1}."
                )
            if facts.no_cuts:
                raise ValueError(
                    f"Tokens of family {facts.family!r} cannot be dropped before decoder layer {place.layer}: "
                    f"{facts.no_cuts}. Use a method that acts before the language model."
                )
            later = [i for i in facts.linear_layers if i >= place.layer]
            if later:
                raise ValueError(
                    f"Decoder layers {later} are linear attention: their state mixes all tokens, so tokens cannot be "
                    f"dropped before layer {place.layer}. Use a method that acts before the language model."
                )
        if isinstance(place, Encoder):
            if not 0 < place.layer <= facts.feature_layer:
                raise ValueError(f"Cannot prune before encoder layer {place.layer}: choose 1 .. {facts.feature_layer}.")
            late = [n for s in stages for n in s.needs if n.tower == "vision" and n.layer >= place.layer]
            if late:
                raise ValueError(
                    f"Encoder layer {late[0].layer} is to be measured, but patches are gone from {place.layer} on."
                )
