"""Forward of the model and of its base: the outermost opens a :class:`Forward`, those below add what they are given."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..core.prompt import Prompt
from .context import settings_of
from .forward import Forward, current
from .masks import is_finished, padding_of
from .patch import Patch
from .prompts import note_request, placeholders_of, records_in
from .seams import Arguments, eagerly, renamed
from .site import Site
from .wrapping import Undo, Wrapped


class Entrance:
    """Wrappers around the model and its base.

    Parameters
    ----------
    handle : Patch
    site : Site
    compiles_steps : bool
        Steps may be part of a compiled graph: nobody measures them.
    """

    def __init__(self, handle: Patch, site: Site, compiles_steps: bool) -> None:
        self.handle, self.site, self.compiles_steps = handle, site, compiles_steps

    def install(self, undo: Undo) -> None:
        """Wrap; the outermost module last, so that it comes first."""
        for module in dict.fromkeys((self.site.base, self.site.model)):
            undo.wrap(module, "forward", self.enter)

    def enter(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """Forward of the model or of its base: open a call, or note what the call that runs is given."""
        kwargs = renamed(type(seat.owner).forward, kwargs)
        if torch.compiler.is_compiling():
            given = Arguments(seat.owner, args, kwargs)
            if self.is_step(given):
                return seat.original(*args, **kwargs)
            return eagerly(self._enter, seat, args, kwargs)
        return self._enter(seat, args, kwargs)

    def is_step(self, given: Arguments) -> bool:
        """True for a forward of one text token, which a compiled graph may hold."""
        rows, mask = given["ids"] if given["ids"] is not None else given["embeds"], given["mask"]
        if self.site.adapter.prepared_masks and isinstance(mask, Tensor) and mask.ndim == 2:
            return False  # what the base model makes of it says nothing of logical columns
        return self.compiles_steps and isinstance(rows, Tensor) and rows.shape[1] == 1

    def _enter(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        if getattr(seat.owner, "_is_replica", False):
            raise ValueError("A patched model cannot run under nn.DataParallel; use DistributedDataParallel.")
        given = Arguments(seat.owner, args, kwargs)
        forward = current(self.handle)
        if forward is not None and forward.seat is not seat:
            self._note(forward, seat.owner, given)
            return seat.original(*args, **kwargs)
        if self.handle.off:
            return seat.original(*args, **kwargs)
        with self.handle.call(device_of(given), seat) as forward:
            self._note(forward, seat.owner, given)
            return seat.original(*args, **kwargs)

    def _note(self, forward: Forward, module: nn.Module, given: Arguments) -> None:
        note_request(forward, given)
        forward.finished = forward.finished or self.is_finished(given)
        if not forward.images.records:
            # the outermost module has the objects the encoder made; accelerate hands copies to those below
            forward.images.records += records_in(given, self.handle.loose)
        if module is self.site.base:
            self._note_prompt(forward, given)

    def is_finished(self, given: Arguments) -> bool:
        """True for a finished mask that the caller brought; ``generate`` makes some itself."""
        return not settings_of(self.handle).generates and is_finished(given["mask"])

    def _note_prompt(self, forward: Forward, given: Arguments) -> None:
        cache, images = given["cache"], forward.images
        cached = 0 if cache is None else int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 0
        embeds, mask = given["embeds"], given["mask"]
        real = None if embeds is None or cached else padding_of(mask, embeds.shape[1], cached)
        forward.prompt = Prompt(given["ids"], embeds, mask, real, cached, given.kwargs)
        if not images.records:
            images.records, images.placeholders = self.site.adapter.policy.given(self.site.model, forward.prompt)
        if not images.placeholders:
            images.placeholders = placeholders_of(self.site, forward.prompt)


def device_of(given: Arguments) -> torch.device:
    """Device of the first tensor among keyword arguments; the CPU without one."""
    tensor = next((v for v in given.kwargs.values() if isinstance(v, Tensor)), None)
    return tensor.device if tensor is not None else torch.device("cpu")
