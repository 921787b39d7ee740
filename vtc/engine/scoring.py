"""Ask a scorer for its opinion of the frames before the encoder of a call runs."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..methods.base import Method
from .clock import Clock


@dataclass(frozen=True)
class Scored:
    """What a scorer said, to whom (``"generate"`` or ``"forward"``), and how long it took."""

    caller: str
    scores: list[Tensor]
    clock: Clock


SCORED: ContextVar[Mapping[int, Scored] | None] = ContextVar("vtc_scored", default=None)
"""Of the calls that are running in this thread, by handle."""


class Scoring:
    """Wraps ``generate`` and hooks ``forward`` of a model whose method may carry a scorer.

    ``get_video_features`` is not given the prompt, so the call as a whole is watched. The scores live as long as it.
    """

    def __init__(self, model: nn.Module, methods: list[Method], owner: Any) -> None:
        self.model, self.owner = model, owner
        self.methods: list[Any] = [m for m in methods if hasattr(m, "scorer")]
        self.handles: list[Any] = []
        self.wrapped = False

    def install(self) -> None:
        """Watch the model, if any of its methods takes a scorer."""
        if not self.methods:
            return
        if hasattr(type(self.model), "generate") and "generate" not in self.model.__dict__:
            # bound to the instance: deepcopy rebinds it, `del` restores the class's method
            wrapped = _wrap(type(self.model).generate, self)  # type: ignore[attr-defined]
            self.model.__dict__["generate"] = types.MethodType(wrapped, self.model)
            self.wrapped = True
        # first of all: a scorer that runs the model must be done before the call is noted
        pre = self.model.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True)
        self.handles += [pre, self.model.register_forward_hook(self._leave, always_call=True)]

    def remove(self) -> None:
        """Undo :meth:`install`."""
        while self.handles:
            self.handles.pop().remove()
        if self.wrapped:
            self.model.__dict__.pop("generate", None)
            self.wrapped = False

    def scored(self) -> Scored | None:
        """What the scorer said in the call that is running in this thread."""
        return (SCORED.get() or {}).get(id(self.owner))

    def begin(self, caller: str, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """Score the frames of a call, unless the call around it has."""
        method = next((m for m in self.methods if m.wants_scorer), None)
        visual = any(name.startswith("pixel_values") and value is not None for name, value in kwargs.items())
        if method is None or not visual or not self.owner.enabled or self.scored() is not None:
            return
        inputs = {**({"input_ids": args[0]} if args else {}), **kwargs}
        tensor = next((v for v in inputs.values() if isinstance(v, Tensor)), None)
        clock = Clock(torch.device("cpu") if tensor is None else tensor.device)
        clock.start("score")
        scores = self._ask(method, inputs)
        clock.stop("score")
        SCORED.set({**(SCORED.get() or {}), id(self.owner): Scored(caller, scores, clock)})

    def end(self, caller: str) -> None:
        """Forget the scores that ``caller`` asked for; harmless when there are none."""
        found = self.scored()
        if found is not None and found.caller == caller:
            SCORED.set({key: value for key, value in (SCORED.get() or {}).items() if key != id(self.owner)})

    def _ask(self, method: Any, inputs: dict[str, Any]) -> list[Tensor]:
        from ..video.scorers import as_scorer

        base = self.owner.adapter.base(self.model)
        scorer = as_scorer(method.scorer)
        deltas = getattr(base, "rope_deltas", None)  # kept on the model between calls by M-RoPE families
        try:
            with torch.no_grad(), self.owner.disabled():
                scores = scorer(self.owner, inputs)
        finally:
            if hasattr(base, "rope_deltas"):
                base.rope_deltas = deltas
        if not isinstance(scores, (list, tuple)) or not all(isinstance(s, Tensor) for s in scores):
            raise TypeError(
                f"The scorer {type(scorer).__name__} returned a {type(scores).__name__}; it must return a list "
                "of tensors [T], one per video of the batch."
            )
        return list(scores)

    def _enter(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling():
            self.begin("forward", args, kwargs)

    def _leave(self, module: nn.Module, args: tuple, output: Any) -> None:
        if not torch.compiler.is_compiling():
            self.end("forward")


def _wrap(generate: Callable, scoring: Scoring) -> Callable:
    @functools.wraps(generate)
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        mine = scoring.owner.of(self).scoring  # a deepcopy of the model carries its own
        mine.begin("generate", args, kwargs)
        try:
            return generate(self, *args, **kwargs)
        finally:
            mine.end("generate")

    return wrapped
