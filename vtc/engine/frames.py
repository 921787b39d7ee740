"""Scores of frames for one call: given by the user around it, or asked of a scorer before its encoder runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..methods.base import Method
from .clock import Clock
from .forward import Forward
from .listener import Listener
from .patch import Patch
from .scope import Scope
from .seams import NAMES, PIXELS
from .site import Site
from .wrapping import Undo, Wrapped

Ask = Callable[[Any, dict[str, Any]], Any]


@dataclass(frozen=True)
class Scored:
    """What a scorer said, to whom, and how long it took."""

    scores: list[Tensor]
    clock: Clock


_SCORED: Scope[Mapping[int, Scored]] = Scope("vtc_scored", {})
"""Of the calls that are running in this thread, by handle."""


class Frames(Listener):
    """Watches a model whose method may ask a scorer: ``get_video_features`` is not given the prompt.

    Parameters
    ----------
    ask : callable
        ``ask(scorer, handle)`` makes a function from the inputs of a call to its scores.
    """

    def __init__(self, handle: Patch, site: Site, methods: list[Method], ask: Ask) -> None:
        self.handle, self.site, self.ask = handle, site, ask
        self.takers: list[Any] = [m for m in methods if hasattr(m, "scorer")]

    def install(self, undo: Undo) -> None:
        """Watch whole calls, if any method takes a scorer; the scores live as long as the outermost."""
        if not self.takers:
            return
        for name in ("generate", "forward"):
            if hasattr(type(self.site.model), name):
                undo.wrap(self.site.model, name, self.run)

    def prompt(self, forward: Forward) -> None:
        """Hand over what was said of the clips of this call."""
        scored = _SCORED.get().get(id(self.handle))
        if scored is not None:
            forward.images.scored = scored.scores
            forward.clock.include(scored.clock)

    def run(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """Score the frames of a call, unless the call around it has, and run it."""
        known = _SCORED.get()
        method = next((m for m in self.takers if m.wants_scorer), None)
        visual = any(name.startswith(PIXELS) and value is not None for name, value in kwargs.items())
        skip = method is None or not visual or self.handle.off or id(self.handle) in known
        if skip or torch.compiler.is_compiling() or self.handle.given_scores is not None:
            return seat.original(*args, **kwargs)
        inputs = {**({NAMES["ids"][0]: args[0]} if args else {}), **kwargs}
        with _SCORED.bind({**known, id(self.handle): self._score(method, inputs)}):
            return seat.original(*args, **kwargs)

    def _score(self, method: Any, inputs: dict[str, Any]) -> Scored:
        tensor = next((v for v in inputs.values() if isinstance(v, Tensor)), None)
        clock = Clock(torch.device("cpu") if tensor is None else tensor.device)
        clock.start("score")
        base = self.site.base
        deltas = getattr(base, "rope_deltas", None)  # kept on the model between calls by M-RoPE families
        try:
            with torch.no_grad(), self.handle.disabled():
                scores = self.ask(method.scorer, inputs)
        finally:
            if hasattr(base, "rope_deltas"):
                base.rope_deltas = deltas
        clock.stop("score")
        if not isinstance(scores, (list, tuple)) or not all(isinstance(s, Tensor) for s in scores):
            raise TypeError(
                f"The scorer {type(method.scorer).__name__} returned a {type(scores).__name__}; it must return a list "
                "of tensors [T], one per video of the batch."
            )
        return Scored(list(scores), clock)
