"""Positions and rotary tables of gathered columns, and which layers share a kind of attention."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from . import cache as kv
from .masks import layer_type
from .seams import Arguments
from .types import Cache, DecoderConfig


def kinds(config: DecoderConfig) -> dict[str, int]:
    """First layer of every type of attention."""
    return {layer_type(config, i): i for i in reversed(range(config.num_hidden_layers))}


def rotate(decoder: Any, index: int, hidden: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
    """Cosines and sines for layer ``index``; some decoders have one rotary embedding per type of layer."""
    # Asked of the model's own module: scaled, partial and per-type frequencies are its affair.
    rotary = decoder.rotary_emb
    if "layer_type" in inspect.signature(rotary.forward).parameters:
        return rotary(hidden, positions, layer_type(decoder.config, index))
    return rotary(hidden, positions)


def shift_positions(given: Arguments, cache: Cache | None, like: Tensor) -> None:
    """Reduce 1-D positions by what the cache's first layer has closed up."""
    shift, positions = kv.shift_of(cache), given["positions"]
    if shift is None or (positions is not None and positions.ndim == 3):
        return
    if positions is None:
        start = kv.first_layer(cache).get_seq_length()
        positions = torch.arange(like.shape[1], device=like.device)[None] + start
    given["positions"] = positions - shift.to(positions.device)[:, None]
