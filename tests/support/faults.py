"""Places inside of a call where something may go wrong, and what must hold after it did."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor
from transformers.cache_utils import DynamicLayer
from transformers.generation.streamers import BaseStreamer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vtc.engine import context, decide, decoder, exit, forward, frames, tower
from vtc.engine.measure import tap


@dataclass
class Plant:
    """A fault to be struck once at one place of a patched model.

    Attributes
    ----------
    extra : dict
        What ``generate`` is to be given for it.
    struck : bool
    """

    model: Any
    handle: Any
    fault: BaseException
    patch: pytest.MonkeyPatch
    extra: dict[str, Any] = field(default_factory=dict)
    struck: bool = False
    hooks: list[Any] = field(default_factory=list)

    def strike(self, *args: Any, **kwargs: Any) -> Any:
        """Raise."""
        self.struck = True
        raise self.fault

    def before(self, module: Any) -> None:
        self.hooks.append(module.register_forward_pre_hook(self.strike))

    def behind(self, module: Any) -> None:
        self.hooks.append(module.register_forward_hook(self.strike))

    def instead(self, owner: Any, name: str) -> None:
        # generate picks arguments by the signature of what it calls
        fault = functools.wraps(getattr(owner, name))(lambda *args, **kwargs: self.strike())
        self.patch.setattr(owner, name, fault)

    def pull(self) -> None:
        for hook in self.hooks:
            hook.remove()

    @property
    def base(self) -> Any:
        return self.handle.adapter.base(self.model)

    @property
    def layers(self) -> Any:
        return self.handle.adapter.layers(self.model)

    @property
    def blocks(self) -> Any:
        return self.handle.adapter.tower_blocks(self.model, "image")

    @property
    def needs(self) -> list[Any]:
        """What the stages of the patch ask to be measured."""
        return [n for m in self.handle.methods for s in m.stages(self.handle.facts) for n in s.needs]


def _projector(plant: Plant) -> None:
    base = plant.base
    plant.before(base.multi_modal_projector if hasattr(base, "multi_modal_projector") else base.visual.merger)


def _kernel(plant: Plant) -> None:
    plant.patch.setitem(ALL_ATTENTION_FUNCTIONS, "sdpa", plant.strike)


def _logits(plant: Plant) -> None:
    one = type("One", (LogitsProcessor,), {"__call__": plant.strike})
    plant.extra["logits_processor"] = [one()]


def _streamer(plant: Plant) -> None:
    plant.extra["streamer"] = type("One", (BaseStreamer,), {"put": plant.strike, "end": lambda self: None})()


def _second_step(plant: Plant) -> None:
    """A decode step, not the prompt."""
    seen = [0]

    def hook(*args: Any) -> None:
        seen[0] += 1
        if seen[0] == 2:
            plant.strike()

    plant.hooks.append(plant.layers[-1].register_forward_pre_hook(hook))


class Even:
    """Scorer that rates all images of a prompt alike, running the model for it."""

    def __call__(self, handle: Any, inputs: Any) -> list[torch.Tensor]:
        handle.model(input_ids=inputs["input_ids"][:, :2])
        return [torch.ones(1)]


def _scorer(plant: Plant) -> None:
    plant.instead(Even, "__call__")


PLACES: dict[str, Callable[[Plant], None]] = {
    "first block of the tower": lambda p: p.before(p.blocks[0]),
    "last block of the tower": lambda p: p.behind(p.blocks[p.handle.adapter.feature_layer(p.model, len(p.blocks))]),
    "projector": _projector,
    "feature method": lambda p: p.instead(type(p.base), "get_image_features"),
    "embedding": lambda p: p.before(p.base.get_input_embeddings()),
    "decoder, before": lambda p: p.before(p.base.language_model),
    "decoder, behind": lambda p: p.behind(p.base.language_model),
    "first layer": lambda p: p.before(p.layers[0]),
    "a layer that is cut": lambda p: p.before(p.layers[2]),
    "last layer": lambda p: p.behind(p.layers[-1]),
    "attention": lambda p: p.before(p.layers[1].self_attn),
    "attention kernel": _kernel,
    "rotary embedding": lambda p: p.before(p.base.language_model.rotary_emb),
    "update of the cache": lambda p: p.instead(DynamicLayer, "update"),
    "head": lambda p: p.before(p.model.lm_head),
    "a measure": lambda p: p.instead(tap.AttentionTap, "measure"),
    "selection": lambda p: p.instead(decide.Deciding, "_choose"),
    "count of the cache": lambda p: p.instead(exit.kv, "commit"),
    "record": lambda p: p.instead(decoder, "record_of"),
    "logits processor": _logits,
    "streamer": _streamer,
    "a decode step": _second_step,
    "scorer": _scorer,
}


def owns(plant: Plant, place: str) -> bool:
    """False where a method never comes by a place."""
    if place == "a measure":
        # changes of rows and pixels are read without a tap on an attention module
        return any(n.statistic.source not in ("modules", "inputs", "pixels") for n in plant.needs)
    if place == "scorer":
        return isinstance(getattr(plant.handle.methods[0], "scorer", None), Even)
    return True


def nothing_open(handle: Any) -> None:
    """No call, no collector, no pass of a tower, no setting of this thread is left, and the gate is empty."""
    assert forward._CURRENT.get() is None
    assert tap.active() is None
    assert tower.tower_run() is None
    assert not frames._SCORED.get()
    assert not {k: v for k, v in context._SETTINGS.get().items() if v != context.Settings()}
    assert not handle._installed.gate.threads()
