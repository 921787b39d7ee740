"""Drop visual tokens at the decoder's entrance and between its layers; put the logical length back at its exit.

The walk of a prefill: the outermost module opens a :class:`Forward` and notes what it is given (``enter``); the feature
methods leave their records there; at the decoder the images are located, the stages before it decide, and
:class:`SideInputs` writes the arguments (``_prefill``); each later layer is served what its columns need, or is cut
first (``layer``); behind the last one the cache is told what it does not hold, everything is counted once more, and
the output gets its logical columns back (``_leave``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..core.prompt import Prompt
from . import cache as kv
from .checks import check_cache, check_layer_output, check_output
from .decide import Deciding
from .entrance import Entrance, device_of
from .exit import commit, count, logical_output, record_of
from .forward import Forward, current
from .listener import Listener
from .locate import keep_mask, locate
from .measure.decoder import DecoderMeter
from .measure.tap import collecting
from .patch import Patch
from .plan import Plan
from .prompts import check_packing, end_of_prompt
from .seams import Arguments, eagerly, renamed
from .side_inputs import SideInputs, true_positions
from .site import Site
from .steps import continue_on, serve_step
from .types import Called
from .wrapping import Undo, Wrapped


class DecoderSpan:
    """Wrappers around the model, its base and its decoder, and hooks on the decoder's layers.

    Parameters
    ----------
    handle : Patch
    site : Site
    plan : Plan
        Its outline says what to hook.
    listeners : list of Listener
    """

    def __init__(self, handle: Patch, site: Site, plan: Plan, listeners: list[Listener]) -> None:
        self.handle, self.site, self.listeners = handle, site, listeners
        more = {need: measure for listener in listeners for need, measure in listener.measures().items()}
        self.meter = DecoderMeter(site, plan.needs("decoder"), more)
        self.cuts = set(plan.cuts)
        self.starts = 1 if site.adds_rows(plan) else min(self.cuts, default=len(site.layers))
        # steps that somebody measures cannot be part of a graph
        self.compiles_steps = not more
        self.entrance = Entrance(handle, site, self.compiles_steps)

    def install(self, undo: Undo) -> None:
        """Wrap and hook; the outermost module last, so that it comes first."""
        undo.wrap(self.site.decoder, "forward", self.decode)
        self.entrance.install(undo)
        rotary = getattr(self.site.decoder, "rotary_emb", None)
        if isinstance(rotary, nn.Module):
            undo.before(rotary, self.rotary, with_kwargs=True)
        for index, layer in enumerate(self.site.layers):
            if index >= self.starts:
                undo.before(layer, Layer(self, index), with_kwargs=True)
        undo.behind(self.site.layers[0], check_layer_output)
        self.meter.install(undo)

    # -- the decoder ---------------------------------------------------------------------------------------------------

    def decode(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """Forward of the decoder."""
        kwargs = renamed(type(seat.owner).forward, kwargs)
        if not torch.compiler.is_compiling():
            return self._decode(seat, args, kwargs)
        given = Arguments(seat.owner, args, kwargs)
        if not self.entrance.is_step(given):
            return eagerly(self._decode, seat, args, kwargs)
        if kv.is_shrunk(given["cache"]):
            continue_on(self.site, None, given)
            args, kwargs = given.call()
        return seat.original(*args, **kwargs)

    def _decode(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        forward, given = current(self.handle), Arguments(seat.owner, args, kwargs)
        # `forward.seat` is the module whose call opened the forward. When the decoder itself was called first, nobody
        # above it has noted prompt and mask, and it opens one of its own below.
        if forward is not None and forward.seat is not seat:
            return self._run(forward, seat, given, args, kwargs)
        if self.handle.off and not kv.is_shrunk(given["cache"]):
            return seat.original(*args, **kwargs)
        # somebody called the decoder around its model, or goes on with a shrunken cache while vtc is switched off
        with self.handle.call(device_of(given), seat) as forward:
            forward.prompt = Prompt(given["ids"], given["embeds"], given["mask"])
            forward.finished = self.entrance.is_finished(given)
            return self._run(forward, seat, given, args, kwargs)

    def _run(self, forward: Forward, seat: Wrapped, given: Arguments, args: tuple, kwargs: dict) -> object:
        watched: AbstractContextManager = nullcontext()
        if not self.handle.off:
            watched = self._watching(forward, given)
        cache = given["cache"]
        if forward.images.records and given["embeds"] is not None:
            check_cache(cache)
            self._prefill(forward, given)
            cache = forward.past.cache
            args, kwargs = given.call()
        elif kv.is_shrunk(cache):
            continue_on(self.site, forward, given)
            args, kwargs = given.call()
        try:
            with watched as forward.meter.collector:
                output = seat.original(*args, **kwargs)
        finally:
            kv.withdraw(cache)
        return self._leave(forward, output)

    def _watching(self, forward: Forward, given: Arguments) -> AbstractContextManager:
        """Look for images, tell the listeners of a step, and begin to collect what somebody wants measured."""
        self._look_for_loose(forward, given)
        if forward.images.records:
            return collecting(forward) if self.meter.measures else nullcontext()
        wanted = [one.step(forward, given["cache"]) for one in self.listeners]
        only = next(filter(None, wanted), "")
        return collecting(forward, only) if only else nullcontext()

    def _look_for_loose(self, forward: Forward, given: Arguments) -> None:
        """Images that were encoded outside of this call and came inside of ``inputs_embeds``."""
        embeds, images = given["embeds"], forward.images
        if images.records or forward.prompt.ids is not None or embeds is None or embeds.shape[1] < 2:
            return
        images.records, found = self.handle.loose.find(embeds)
        if images.records:
            images.placeholders = found
        elif given["cache"] is None or not kv.is_shrunk(given["cache"]):
            self.handle.loose.warn()

    def _prefill(self, forward: Forward, given: Arguments) -> None:
        side = forward.notes[SideInputs] = SideInputs(self.site, forward, given)
        rows, images = given["embeds"], forward.images
        side.read(rows)
        images.records = [self.site.adapter.scattered(record, forward.prompt.extra) for record in images.records]
        locate(images, rows.shape[0])
        # What is kept depends on the prompt alone: not on logits_to_keep, and not on completions behind it.
        forward.end = end_of_prompt(forward, self.site.adapter.policy.action_length)
        check_packing(forward, side.mask, side.held)
        for listener in self.listeners:
            listener.prompt(forward)
        forward.clock.start("select")
        rows = self._decided(forward, 0, forward.plan.first, rows, None)
        keep = keep_mask(forward, rows.device)
        forward.clock.stop("select")
        self.meter.note_inputs(forward, rows)
        # The one question to the device of a prefill that could be saved; it buys that keep=1 leaves the arguments
        # untouched.
        if bool((keep | ~forward.tokens.real).all()):
            side.pass_on(rows)
        else:
            side.enter(rows, keep, forward.plan.renumbers and not self.keeps_positions)
        # what a first layer of the same history is given holds for all like it; others have a hook, or refuse
        cache = forward.past.cache
        if kv.is_shrunk(cache):
            kv.help_layers(cache, kv.first_layer(cache))

    @property
    def keeps_positions(self) -> bool:
        """True where gaps in positions are never closed."""
        return self.site.facts.keeps_positions or self.site.facts.multimodal_rope

    def _decided(self, forward: Forward, layer: int, stages: list, rows: Tensor, where: Tensor | None) -> Tensor:
        for stage in stages:
            merged = Deciding(forward, stage, rows, where, self.handle.row_state).run(layer)
            rows = rows if merged is None else merged
        return rows

    # -- between the layers --------------------------------------------------------------------------------------------

    def layer(self, index: int, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Called | None:
        """Before decoder layer ``index``: cut, and give it the side inputs of the columns that are left."""
        forward, given = current(self.handle), Arguments(module, args, kwargs)
        if forward is None or not forward.is_prefill:
            return given.call() if serve_step(self.site, forward, index, given) else None
        side: SideInputs = forward.notes[SideInputs]
        side.adopt(given["cache"])
        hidden = given.hidden
        added = forward.added
        if added is not None and self.site.adds_rows(forward.plan) and index <= len(added.levels):
            hidden = added.kept(forward.tokens).add(index - 1, hidden)
        if index in self.cuts:
            forward.clock.start("select")
            # What the layers so far have shown is needed now, not at the end.
            self.meter.flush(forward)
            if self.meter.wants_ahead(index):
                # The layer runs twice in part: once up to its queries and keys, for the ranking, and then on what is
                # left.
                ahead = Arguments(module, (hidden, *args[1:]), {k: v for k, v in kwargs.items() if k != given.taken[0]})
                side.serve(index, hidden, ahead)
                self.meter.look_ahead(forward, index, ahead)
            hidden = self._cut(forward, index, hidden)
            forward.clock.stop("select")
        given.hidden = hidden
        side.serve(index, hidden, given)
        return given.call()

    def _cut(self, forward: Forward, index: int, hidden: Tensor) -> Tensor:
        layout, stages = forward.tokens, forward.plan.cuts[index]
        where = None if layout.now.packing is None else layout.now.packing.places()
        before = keep_mask(forward, hidden.device)
        hidden = self._decided(forward, index, stages, hidden, where)
        after = keep_mask(forward, hidden.device)
        if bool((after == before).all()):
            return hidden
        # Without a packing the padding still stands between the tokens: it goes with the first cut, unless the caller's
        # own finished mask speaks of it.
        keep = after if layout.segments[0].packing is not None or forward.finished else after & layout.real
        renumber = all(s.positions == "renumber" for s in stages) and not self.keeps_positions
        return layout.drop(index, keep, renumber).take(hidden)

    # -- the exit ------------------------------------------------------------------------------------------------------

    def _leave(self, forward: Forward, output: Any) -> object:
        if not forward.is_prefill:
            for listener in self.listeners:
                listener.stepped(forward)
        if forward.layout is None:
            return output
        cache = check_output(output, forward)
        if SideInputs in forward.notes:
            forward.notes[SideInputs].adopt(cache)
        commit(forward)
        count(forward)
        if forward.is_prefill:
            for listener in self.listeners:
                listener.prompted(forward)
            self.handle.note(record_of(forward))
        return logical_output(forward, output)

    def rotary(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Called | None:
        """Before the rotary embedding: the true positions of gathered columns."""
        if torch.compiler.is_compiling():
            given = Arguments(module, args, kwargs)
            rows = given["positions"]
            if rows is None or rows.shape[-1] == 1:
                return None
            return eagerly(true_positions, self.handle, args, kwargs)
        return true_positions(self.handle, args, kwargs)


class Layer:
    """Pre-hook of one decoder layer."""

    def __init__(self, span: DecoderSpan, index: int) -> None:
        self.span, self.index = span, index

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Called | None:
        """Serve the layer; under ``torch.compile`` a prompt breaks the graph here, a step does not."""
        if not torch.compiler.is_compiling():
            return self.span.layer(self.index, module, args, kwargs)
        given = Arguments(module, args, kwargs)
        if given.hidden.shape[1] == 1 and self.span.compiles_steps:
            return given.call() if serve_step(self.span.site, None, self.index, given) else None
        return eagerly(self.span.layer, self.index, module, args, kwargs)
