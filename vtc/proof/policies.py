"""Brute force for policies whose decoders are called by themselves: dropped columns hidden from every layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .masking import alive_layers, held_cache
from .models.parts import Inputs
from .models.pi0 import PATCHES, PLACEHOLDER


@dataclass
class Seen:
    """What eager attention showed: per layer, rows [B, H, Q, K] of every call."""

    rows: dict[int, list[Tensor]]


@contextmanager
def masked_layers(layers: Any, alive: Tensor, seen: Seen | None = None) -> Iterator[None]:
    """Hide columns ``~alive[layer]`` [B, P] of the first P keys from every query of every layer, and note attention."""
    handles = []
    for i, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(partial(_hide, alive[i]), with_kwargs=True))
        if seen is not None:
            handles.append(layer.self_attn.register_forward_hook(partial(_note, seen, i)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hide(alive: Tensor, module: Any, args: Any, kwargs: Any) -> Any:
    given, hidden = kwargs["attention_mask"], args[0]
    cache, index = held_cache(kwargs.values()), module.self_attn.layer_idx
    held = 0 if cache is None else cache.get_seq_length(index)
    width = hidden.shape[1]
    if given is None:
        given = torch.ones(1, 1, width, held + width, dtype=torch.bool).tril(held)
    shown = given if given.dtype == torch.bool else given == 0
    shown = shown.expand(len(alive), 1, -1, -1).clone()
    known = min(alive.shape[1], shown.shape[-1])
    shown[..., :known] &= alive[:, None, None, :known]
    kwargs["attention_mask"] = torch.zeros(shown.shape, dtype=hidden.dtype).masked_fill(~shown, -1e30)
    return args, kwargs


def _note(seen: Seen, index: int, module: Any, args: Any, output: Any) -> None:
    if output[1] is not None:
        seen.rows.setdefault(index, []).append(output[1].detach())


def pi0_columns(inputs: Inputs, record: Any) -> list[Tensor]:
    """Columns of every camera of a record, from the ids."""
    found = []
    for log in record.images:
        where = (inputs["input_ids"][log.row] == PLACEHOLDER).nonzero()[:, 0]
        found.append(where[log.image * PATCHES : (log.image + 1) * PATCHES])
    return found


@torch.no_grad()
def pi0_oracle(model: Any, handle: Any, inputs: Inputs, seen: Seen | None = None) -> Tensor:
    """Actions of the unpruned model with everything dropped masked out, in the prefix and for the expert."""
    layers = len(model.model.dit.layers)
    alive = alive_layers(handle.last, pi0_columns(inputs, handle.last), inputs["attention_mask"], layers)
    prefix, expert = model.model.vlm.language_model.layers, model.model.dit.layers
    with handle.disabled(), masked_layers(prefix, alive), masked_layers(expert, alive, seen):
        return model.sample_actions(**inputs)
