"""Ask a scorer for its opinion of the frames before the encoder of a call runs."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from ..methods.base import Method

SCORED: ContextVar[Mapping[int, tuple[str, list[Tensor]]] | None] = ContextVar("vtc_scored", default=None)
"""By handle: which call asked, ``"generate"`` or ``"forward"``, and what the scorer said."""


class Scoring:
    """Wraps ``generate`` and hooks ``forward`` of a model whose method may carry a scorer.

    ``get_video_features`` is not given the prompt, so the call as a whole is watched. The scores live as long as it.
    """

    def __init__(self, model: nn.Module, methods: list[Method], owner: Any) -> None:
        self.model, self.owner = model, owner
        self.methods: list[Any] = [m for m in methods if hasattr(m, "scorer")]
        self.handles: list[Any] = []

    def install(self) -> None:
        """Watch the model, if any of its methods takes a scorer."""
        if not self.methods:
            return
        if hasattr(type(self.model), "generate"):
            # bound to the instance: deepcopy rebinds it, `del` restores the class's method
            wrapped = _wrap(type(self.model).generate, self)  # type: ignore[attr-defined]
            self.model.__dict__["generate"] = types.MethodType(wrapped, self.model)
        pre = self.model.register_forward_pre_hook(self._enter, with_kwargs=True)
        self.handles += [pre, self.model.register_forward_hook(self._leave, always_call=True)]

    def remove(self) -> None:
        """Undo :meth:`install`."""
        while self.handles:
            self.handles.pop().remove()
        if self.methods:
            self.model.__dict__.pop("generate", None)

    def scored(self) -> list[Tensor] | None:
        """Scores of the call that is running in this thread."""
        found = (SCORED.get() or {}).get(id(self.owner))
        return None if found is None else found[1]

    def begin(self, caller: str, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """Score the frames of a call, unless the call around it has."""
        method = next((m for m in self.methods if m.wants_scorer), None)
        visual = any(name.startswith("pixel_values") and value is not None for name, value in kwargs.items())
        if method is None or not visual or not self.owner.enabled or self.scored() is not None:
            return
        inputs = {**({"input_ids": args[0]} if args else {}), **kwargs}
        SCORED.set({**(SCORED.get() or {}), id(self.owner): (caller, self._ask(method, inputs))})

    def end(self, caller: str) -> None:
        """Forget the scores that ``caller`` asked for; harmless when there are none."""
        found = dict(SCORED.get() or {})
        if found.get(id(self.owner), ("", []))[0] == caller:
            del found[id(self.owner)]
            SCORED.set(found)

    def _ask(self, method: Any, inputs: dict[str, Any]) -> list[Tensor]:
        base = self.owner.adapter.base(self.model)
        deltas = getattr(base, "rope_deltas", None)  # kept on the model between calls by M-RoPE families
        try:
            with torch.no_grad(), self.owner.disabled():
                scores = method.scorer(self.owner, inputs)
        finally:
            if hasattr(base, "rope_deltas"):
                base.rope_deltas = deltas
        if not isinstance(scores, (list, tuple)) or not all(isinstance(s, Tensor) for s in scores):
            raise TypeError(
                f"The scorer {type(method.scorer).__name__} returned a {type(scores).__name__}; it must return a list "
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
