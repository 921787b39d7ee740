"""Drop visual tokens at the decoder's entrance and between its layers; put the logical length back at its exit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vtc.adapters import Adapter

from ..core.layout import Packing, Segment
from ..core.stage import Decoder, Feedback, Projector, Stage
from . import cache as kv
from .actions import Actions, wanted
from .call import CALL, Call, current, locate
from .clock import Clock
from .encoder import RECORD
from .entrance import Entrance
from .expert import ExpertEngine
from .layers import LayerHooks
from .measure import DecoderTaps
from .policy import Wrappers
from .record import CallRecord
from .seams import cache_of
from .selecting import keep_mask, run_stage


class DecoderEngine:
    """Hooks on the model, its base, its decoder and, where needed, the decoder's layers."""

    def __init__(
        self, model: nn.Module, adapter: Adapter, stages: list[Stage], owner: Any, feedback: Feedback | None = None
    ) -> None:
        self.model, self.adapter, self.stages, self.owner = model, adapter, stages, owner
        self.base, self.decoder = adapter.base(model), adapter.decoder(model)
        self.first = [s for s in stages if isinstance(s.at, Projector)]
        self.cuts: dict[int, list[Stage]] = {}
        for stage in stages:
            if isinstance(stage.at, Decoder):
                self.cuts.setdefault(stage.at.layer, []).append(stage)
        self.token_ids = adapter.token_ids(model)
        self.entrance = Entrance(self)
        self.layer_hooks = LayerHooks(self)
        self.actions = Actions(self, feedback)
        mine = [] if owner.facts.actions == "expert" else wanted(feedback)
        self.taps = DecoderTaps(self, [n for s in stages for n in s.needs if n.tower == "decoder"] + mine)
        self.expert, self.wrappers = ExpertEngine(self), Wrappers(self)
        self.handles: list[Any] = []
        self.enabled = True

    def install(self) -> None:
        """Register the hooks; prepended where another hook must not see physical lengths."""
        add = self.handles.append
        for module in dict.fromkeys((self.model, self.base)):
            add(module.register_forward_pre_hook(self._outer_pre, with_kwargs=True))
            add(module.register_forward_hook(self._outer_post, with_kwargs=True, always_call=True))
        add(self.decoder.register_forward_pre_hook(self._decoder_pre, with_kwargs=True))
        # a decoder that is patched by itself is its own base: its exit comes before that of the whole call
        own = self.decoder is self.base
        add(self.decoder.register_forward_hook(self._decoder_post, with_kwargs=True, prepend=own))
        rotary = getattr(self.decoder, "rotary_emb", None)
        if isinstance(rotary, nn.Module):
            add(rotary.register_forward_pre_hook(self.entrance.rotary_pre, with_kwargs=True))
        self.handles += self.layer_hooks.install()
        self.taps.install()
        self.handles += self.expert.install()
        self.wrappers.install()

    def remove(self) -> None:
        """Remove every hook, last first."""
        self.wrappers.remove()
        self.expert.remove()
        self.taps.remove()
        while self.handles:
            self.handles.pop().remove()

    def _outer_pre(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or not self.enabled:
            return
        call = current(self.owner)
        if call is None:
            call = Call(owner=module, engine=self.owner, clock=Clock(_device(args, kwargs)))
            call.token = CALL.set(call)
            call.clock.start("forward")
        keep = kwargs.get("logits_to_keep")
        if isinstance(keep, int) and keep > 1:
            call.logits_to_keep = keep
        if not call.records:
            # the outermost module has the objects the encoder made; accelerate hands copies to those below
            self._note_encoded(call, kwargs)
        if module is self.base:
            self._note_inputs(call, args, kwargs)

    def _note_inputs(self, call: Call, args: tuple, kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args and isinstance(args[0], Tensor) else None)
        embeds = kwargs.get("inputs_embeds")
        cache = cache_of(kwargs)
        cached = 0 if cache is None else int(cache.get_seq_length())
        call.inputs = {"input_ids": ids, **kwargs, "cached": cached}
        if not call.records:
            call.records, call.placeholders = self.adapter.given(self.model, call.inputs)
            if call.records:
                return
        for modality, token in self.token_ids.items():
            if ids is not None:
                call.placeholders[modality] = ids == token
            elif embeds is not None:
                probe = torch.full((), token, dtype=torch.long, device=embeds.device)
                call.placeholders[modality] = (embeds == self.base.get_input_embeddings()(probe)).all(-1)

    @staticmethod
    def _note_encoded(call: Call, kwargs: dict[str, Any]) -> None:
        for modality, output in (kwargs.get("mm_encoder_outputs") or {}).items():
            if output is None:
                continue
            record = getattr(output, RECORD, None)
            if record is None:
                raise ValueError(
                    f"The encoded {modality} features carry no vtc record: they were encoded before vtc.patch, or cut "
                    "by chunked prefill. Encode them after patching and leave prefill_chunk_size unset."
                )
            call.records.append(record)

    def _outer_post(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        call = current(self.owner)
        if call is None or call.owner is not module:
            return
        self.taps.stop(call)
        if output is None:
            self.actions.discard(call)
        CALL.reset(call.token)
        call.clock.stop("forward")
        self.owner.finish(call)

    def _decoder_pre(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not self.enabled:
            return None
        call = current(self.owner) if not torch.compiler.is_compiling() else None
        if call is not None and not call.records:
            self.actions.resume(call, kwargs)
        if call is not None and call.records and kwargs.get("inputs_embeds") is not None:
            self._prefill(call, kwargs)
            return args, kwargs
        if kv.is_shrunk(cache_of(kwargs)):
            self.entrance.continue_on(call, args, kwargs)
            return args, kwargs
        return None

    def _prefill(self, call: Call, kwargs: dict[str, Any]) -> None:
        embeds = kwargs["inputs_embeds"]
        batch, length = embeds.shape[:2]
        self.entrance.note_past(call, kwargs, batch, length)
        call.records = [self.adapter.scattered(record, call.inputs) for record in call.records]
        call.groups = locate(call, batch)
        asked = self.owner.scoring.scored()
        if asked is not None:
            call.scored = asked.scores
            call.clock.include(asked.clock)
        self.actions.begin(call, batch)
        call.clock.start("select")
        for stage in self.first:
            merged = run_stage(call, stage, 0, embeds, None, self.owner.row_state)
            embeds = embeds if merged is None else merged
        kwargs["inputs_embeds"] = full = embeds
        self.entrance.remap_deepstack(call, kwargs)
        keep = keep_mask(call, batch, length, embeds.device)
        call.clock.stop("select")
        renumber = bool(self.first) and all(s.positions == "renumber" for s in self.first)
        if call.real is not None and not bool((keep | ~call.real).all()):
            self.entrance.shrink(call, kwargs, keep, renumber and not self.adapter.multimodal_rope)
        else:
            self.entrance.pass_through(call, kwargs)
        self.taps.start(call, full)

    def _decoder_post(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        call = current(self.owner) if not torch.compiler.is_compiling() else None
        if call is None or output is None:
            return None
        if not call.groups:
            self.actions.end_step(call)
        self.taps.stop(call)
        if not call.segments:
            return None
        if call.past is not None:
            self._commit(call)
        if call.groups:
            self.actions.end_prompt(call)
            self.owner.note(self._record(call))
        return self._restore(call, output)

    def _commit(self, call: Call) -> None:
        if not call.groups and call.segments[0].valid is None:
            return  # a decode step: later columns count as real, nothing to write down
        first = call.segments[0]
        length = first.packing.length if first.packing is not None else first.width
        for i, layer in enumerate(list(call.past.layers)):
            segment = segment_of(call, i)
            gone = length - segment.width
            ragged = segment.packing is not None or isinstance(layer, kv.Shrunk)
            if not kv.is_token_layer(layer) or not (gone or ragged):
                continue
            held = kv.stored(layer)
            past = call.past_valid.get(i)
            valid = kv.join_valid(past, held - segment.width, segment.valid, segment.width, _batch(call), _where(call))
            fixed = held - _kept_tail(call, segment) if gone or segment.packing is not None else 0
            kv.commit(call.past, i, gone, valid, self._shift(call, segment, layer), fixed, id(segment))

    @staticmethod
    def _shift(call: Call, segment: Segment, layer: Any) -> Tensor | None:
        """What later positions of this layer are to be reduced by: by earlier turns and by this one."""
        starts = [s for s in call.gone if s <= segment.start]
        before = getattr(layer, "shift", None)
        if not starts:
            return before
        key = ("shift", max(starts), id(before))
        if (
            key not in call.masks
        ):  # layers that agree share one tensor, so that decode steps rotate once for all of them
            new = call.gone[max(starts)][:, -1]
            call.masks[key] = new if before is None else new + before.to(new.device)
        return call.masks[key]

    def _restore(self, call: Call, output: Any) -> Any:
        last = call.segments[-1]
        states = getattr(output, "hidden_states", None)
        # decoders that compute the last columns only, as many as the head wants, are right as they are
        if last.packing is not None and output.last_hidden_state.shape[1] == last.width:
            output.last_hidden_state = last.packing.restore(output.last_hidden_state)
        if states is not None and any(s.packing is not None for s in call.segments):
            output.hidden_states = tuple(self._full_state(call, i, x) for i, x in enumerate(states))
        return output

    def _full_state(self, call: Call, index: int, x: Tensor) -> Tensor:
        # entry 0 is the decoder's input, entry i the output of layer i - 1, the last one is already restored or normed
        segment = call.segments[0] if index == 0 else segment_of(call, index - 1)
        packing = segment.packing
        return x if packing is None or x.shape[1] != packing.width else packing.restore(x)

    def _record(self, call: Call) -> CallRecord:
        layers, batch = [], _batch(call)
        for s in call.segments:
            counts = [s.width] * batch if s.valid is None else s.valid.sum(1).tolist()
            layers.append((s.start, counts))
        first = call.segments[0]
        length = first.packing.length if first.packing is not None else first.width
        real = [length] * batch if call.real is None else call.real.sum(1).tolist()
        held = kv.kv_bytes(call.past)
        full = [_full_bytes(layer, size) for layer, size in zip(getattr(call.past, "layers", ()), held, strict=True)]
        clocks = [r.seconds for r in call.records]
        cached = [call.cached] * batch
        return CallRecord([g.log for g in call.groups], batch, real, layers, cached, held, full, call.clock, clocks)


def segment_of(call: Call, layer: int) -> Segment:
    """Segment that decoder layer ``layer`` runs in."""
    return [s for s in call.segments if s.start <= layer][-1]


def _device(args: tuple, kwargs: dict[str, Any]) -> torch.device:
    tensor = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)), None)
    return tensor.device if tensor is not None else torch.device("cpu")


def _batch(call: Call) -> int:
    assert call.real is not None
    return call.real.shape[0]


def _where(call: Call) -> Any:
    assert call.real is not None
    return call.real.device


def _kept_tail(call: Call, segment: Segment) -> int:
    """Columns at the end of this forward that every row kept."""
    packing: Packing | None = segment.packing
    if packing is None or call.real is None:
        return segment.width
    taken = packing.taken()
    kept = (taken | ~call.real.to(taken.device)).all(0)
    return int(kept.flip(0).long().cumprod(0).sum())


def _full_bytes(layer: Any, held: int) -> int:
    """Bytes the layer would hold had nothing been dropped; static layers hold their whole length in any case."""
    if not kv.is_token_layer(layer) or not held or layer.is_compileable:
        return held
    kept = kv.stored(layer)
    total = kept + kv.dropped(layer)
    if getattr(layer, "is_sliding", False):
        kept, total = (min(count, layer.sliding_window - 1) for count in (kept, total))
    return held * total // kept
