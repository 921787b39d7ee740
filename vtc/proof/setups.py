"""What a proof runs: a tiny model, its inputs, its brute-force reference; alike for models that talk and that act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..core.stage import Decoder, ModelFacts, Stage
from .masking import alive_by_layer, alive_layers, held_cache, masked_logits, shortened_logits
from .models.parts import SPECIAL, Case, Inputs
from .models.pi0 import CAMERAS, pi0_alone, pi0_inputs
from .policies import pi0_columns, pi0_oracle
from .verdict import difference

GENERATE: dict[str, Any] = dict(max_new_tokens=4, do_sample=False, suppress_tokens=SPECIAL)


@dataclass(frozen=True)
class Ran:
    """What one run gave.

    Attributes
    ----------
    values : Tensor [B, T, V]
        Logits of T new tokens; for policies the actions.
    ids : Tensor [B, T]
        New tokens; empty for policies.
    """

    values: Tensor
    ids: Tensor


@dataclass
class Setup(ABC):
    """One tiny model with inputs.

    Attributes
    ----------
    name, family : str
    model : nn.Module
    """

    name: str
    family: str
    model: Any

    @cached_property
    def facts(self) -> ModelFacts:
        """What methods may know of the model."""
        from vtc.adapters import find_adapter

        return find_adapter(self.model).facts(self.model)

    @cached_property
    def plain(self) -> Ran:
        """What the unpatched model gives for the batch."""
        return self.run(self.batch)

    @cached_property
    def own_noise(self) -> float:
        """What a cache changes in the unpatched model by itself: rounding, in some kernels more."""
        return difference(self.run(self.batch, cached=False).values, self.plain.values)

    @property
    @abstractmethod
    def batch(self) -> Inputs:
        """Padded rows with different numbers of images."""

    @abstractmethod
    def rows(self) -> list[Inputs]:
        """Every row of the batch by itself."""

    @abstractmethod
    def run(self, inputs: Inputs, cached: bool = True) -> Ran:
        """Generate, or act."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [B, L, V] of one forward; for policies the actions."""

    @abstractmethod
    def prefill(self, inputs: Inputs) -> Any:
        """Cache that one prefill leaves."""

    @abstractmethod
    def masked(self, handle: Any, ran: Ran) -> Tensor:
        """What a run must give when the tokens that ``handle`` noted as dropped are masked instead."""

    @abstractmethod
    def alive(self, record: Any) -> Tensor:
        """Bool [layers, B, L]: columns of the batch that exist in each decoder layer."""

    @property
    def uncached(self) -> str:
        """Why the model cannot run without a cache; empty when it can."""
        return ""


class Talking(Setup):
    """A family that answers in text."""

    def __init__(self, case: Case, model: Any = None) -> None:
        super().__init__(case.name, case.family, case.build() if model is None else model)
        self.case = case

    @cached_property
    def batch(self) -> Inputs:
        """Left-padded prompts with one image, with several, with none."""
        return self.case.batch()

    def rows(self) -> list[Inputs]:
        """Prompts by themselves."""
        return [self.case.alone(i) for i in range(len(self.case.samples))]

    def run(self, inputs: Inputs, cached: bool = True) -> Ran:
        """Generate greedily."""
        options = dict(GENERATE, use_cache=cached, return_dict_in_generate=True, output_logits=True)
        out = self.model.generate(**inputs, **options)
        return Ran(torch.stack(out.logits, 1), out.sequences[:, inputs["input_ids"].shape[1] :])

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits of every column."""
        return self.model(**inputs).logits

    def prefill(self, inputs: Inputs) -> Any:
        """Cache among the outputs of a forward."""
        return held_cache(self.model(**inputs, use_cache=True).values())

    def masked(self, handle: Any, ran: Ran) -> Tensor:
        """Logits of one full-length forward without a cache; with linear attention, of forwards on what is left."""
        if handle.facts.linear_layers:
            with handle.disabled():
                return shortened_logits(self.model, self.batch, handle.last, ran.ids)
        stages = handle.methods[0].stages(handle.facts)
        closing = not handle.facts.keeps_positions and closes_up(stages)
        with handle.disabled():
            return masked_logits(self.model, self.batch, handle.last, ran.ids, closing)

    def alive(self, record: Any) -> Tensor:
        """From the ids."""
        return alive_by_layer(self.batch, record, self.facts.decoder_layers)


class Acting(Setup):
    """pi0, which denoises actions on the cache of its prefix."""

    uncached = "sample_actions reads the prefix through its cache and has no way without one; `masking` covers it"

    @cached_property
    def batch(self) -> Inputs:
        """Observations of two cameras and of one."""
        return pi0_inputs()

    def rows(self) -> list[Inputs]:
        """Observations by themselves."""
        return [pi0_alone(row) for row in range(len(CAMERAS))]

    def run(self, inputs: Inputs, cached: bool = True) -> Ran:
        """Sample actions."""
        actions = self.model.sample_actions(**inputs)
        return Ran(actions, actions.new_empty(len(actions), 0))

    def forward(self, inputs: Inputs) -> Tensor:
        """Actions again: this family is not called by a bare forward."""
        return self.run(inputs).values

    def prefill(self, inputs: Inputs) -> Any:
        """Cache as the expert gets it."""
        seen: list[Any] = []

        def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            cache = held_cache(kwargs.values())
            if not seen:
                # the expert appends its own rows and takes them off again
                seen.append(_Copied([_Layer(x.keys.clone(), x.values.clone()) for x in cache.layers]))

        hook = self.model.model.dit.register_forward_pre_hook(note, with_kwargs=True)
        try:
            self.run(inputs)
        finally:
            hook.remove()
        return seen[0]

    def masked(self, handle: Any, ran: Ran) -> Tensor:
        """Actions with the dropped columns hidden from prefix and expert."""
        return pi0_oracle(self.model, handle, self.batch)

    def alive(self, record: Any) -> Tensor:
        """From the ids."""
        columns = pi0_columns(self.batch, record)
        return alive_layers(record, columns, self.batch["attention_mask"], self.facts.decoder_layers)


@dataclass
class _Layer:
    keys: Tensor
    values: Tensor


@dataclass
class _Copied:
    layers: list[_Layer]


def closes_up(stages: list[Stage]) -> bool | str:
    """Where 1-D positions close up: at every cut, at the first one only, or never."""
    early, late = ({s.positions for s in stages if isinstance(s.at, Decoder) is decoder} for decoder in (False, True))
    if "renumber" in late or not late:
        return "renumber" in early | late
    return "first" if "renumber" in early else False
