"""Brute force: full-length, cache-free forwards in which dropped tokens are masked out, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from .models.parts import IMG, VID, Inputs

_FAR = 10**6
"""A sliding window that no prompt fills."""


def visual_columns(inputs: Inputs, record: Any) -> list[tuple[Any, Tensor]]:
    """Columns of every image in the record, recomputed from the ids alone."""
    found: list[tuple[Any, Tensor]] = []
    used: dict[tuple[int, int], int] = {}
    for log in record.images:
        token = VID if log.modality == "video" and bool((inputs["input_ids"] == VID).any()) else IMG
        columns = (inputs["input_ids"][log.row] == token).nonzero()[:, 0]
        start = used.get((log.row, token), 0)
        found.append((log, columns[start : start + log.before]))
        used[log.row, token] = start + log.before
    return found


def alive_layers(record: Any, columns: list[Tensor], real: Tensor, layers: int) -> Tensor:
    """Bool [layers, B, L] from a record: ``columns`` are the image columns of every image in its order."""
    alive = real.bool().expand(layers, -1, -1).clone()
    for log, where in zip(record.images, columns, strict=True):
        for start, kept in log.cuts:
            alive[start:, log.row, where] = False
            alive[start:, log.row, where[kept]] = True
    return alive


def alive_by_layer(inputs: Inputs, record: Any, layers: int) -> Tensor:
    """Bool [layers, B, L]: columns that exist in each decoder layer."""
    columns = [where for _, where in visual_columns(inputs, record)]
    return alive_layers(record, columns, inputs["attention_mask"], layers)


def held_cache(values: Iterable[Any]) -> Any:
    """Cache among arguments or outputs, known by what it is: its name differs between releases of transformers."""
    return next((v for v in values if hasattr(v, "layers") and hasattr(v, "get_seq_length")), None)


@contextmanager
def masked(model: Any, alive: Tensor, rope: dict[int, Tensor] | None = None) -> Iterator[None]:
    """Hide the keys that are not alive in each layer; ``rope`` replaces the positions from a layer on.

    Sliding windows count the tokens that are there, so the model's own are switched off and counted here; what else the
    base model has put into finished masks (images that attend both ways) is kept.
    """
    decoder = model.get_decoder()
    config, handles = decoder.config, []
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or [None] * len(decoder.layers)
    if window is not None:
        config.sliding_window = _FAR
    for i, layer in enumerate(decoder.layers):
        sliding = window is not None and kinds[i] in (None, "sliding_attention")
        positions = next((rope[k] for k in sorted(rope, reverse=True) if k <= i), None) if rope else None
        hook = partial(_hide, decoder, i, alive[i], window if sliding else None, positions)
        handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if window is not None:
            config.sliding_window = window


def _hide(
    decoder: Any,
    index: int,
    alive: Tensor,
    window: int | None,
    positions: Tensor | None,
    module: Any,
    args: Any,
    kwargs: dict[str, Any],
) -> Any:
    given, dtype = kwargs["attention_mask"], args[0].dtype
    if given is None:
        seen = torch.ones(1, 1, *alive.shape[1:] * 2, dtype=torch.bool).tril()
    else:
        seen = given if given.dtype == torch.bool else given == 0
    place = alive.long().cumsum(1)
    if window is not None:
        both = seen & seen.transpose(-1, -2)  # images that attend both ways do so beyond the window
        seen = seen & (both | (place[:, None, :, None] - place[:, None, None, :] < window))
    seen = seen & alive[:, None, None, :]
    kwargs["attention_mask"] = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -1e30)
    if positions is not None:
        rotary = decoder.rotary_emb
        kind = [decoder.config.layer_types[index]] if "layer_type" in signature(rotary.forward).parameters else []
        kwargs["position_embeddings"] = rotary(args[0], positions, *kind)
    return args, kwargs


def positions_of(inputs: Inputs, steps: int) -> Tensor:
    """1-D positions as ``generate`` makes them, extended by new tokens."""
    mask = inputs["attention_mask"]
    first = (mask.cumsum(1) - 1).clamp_min(0) * mask
    return torch.cat([first, first[:, -1:] + torch.arange(1, steps + 1)], 1)


def renumbered(inputs: Inputs, alive: Tensor, steps: int, first: bool = False) -> dict[int, Tensor]:
    """Contiguous positions per layer: original ones minus the dropped columns before them.

    ``first`` counts only those dropped before the language model.
    """
    base = positions_of(inputs, steps)
    real = inputs["attention_mask"].bool()
    out = {}
    for i in range(alive.shape[0]):
        gone = (real & ~alive[0 if first else i]).long().cumsum(1)
        gone = torch.cat([gone, gone[:, -1:].expand(-1, steps)], 1)
        out[i] = base - gone
    return out


@torch.no_grad()
def masked_logits(model: Any, inputs: Inputs, record: Any, new: Tensor, renumber: bool | str = False) -> Tensor:
    """Logits [B, T, V] for the next token after the prompt and after each of ``new`` [B, T] but the last.

    Parameters
    ----------
    record : CallRecord
        What the patched model dropped of ``inputs``; the patch itself must be off.
    renumber : bool or "first"
        Positions of later tokens close up: at every cut, at none, or at the first alone.
    """
    steps = new.shape[1] - 1
    alive = alive_by_layer(inputs, record, len(model.get_decoder().layers))
    rope = renumbered(inputs, alive, steps, renumber == "first") if renumber else None
    rope = {k: v + _first(model) for k, v in rope.items()} if rope else None
    alive = torch.cat([alive, torch.ones(*alive.shape[:2], steps, dtype=torch.bool)], 2)
    with masked(model, alive, rope):
        logits = model(**extended(model, inputs, new), use_cache=False).logits
    return logits[:, inputs["input_ids"].shape[1] - 1 :]


@torch.no_grad()
def shortened_logits(model: Any, inputs: Inputs, record: Any, new: Tensor) -> Tensor:
    """Return the same as :func:`masked_logits`, for drops before the language model: it is called on what is left.

    The reference for decoders with linear attention, from whose state no mask can hide a token. Every row runs alone,
    without padding, on the rows and positions that the full prompt has at the columns that were kept.
    """
    decoder, given = model.get_decoder(), {}
    hook = decoder.register_forward_pre_hook(lambda module, args, kwargs: given.update(kwargs), with_kwargs=True)
    try:
        model(**extended(model, inputs, new), use_cache=False)
    finally:
        hook.remove()
    embeds, positions, steps = given["inputs_embeds"], given["position_ids"], new.shape[1] - 1
    alive = alive_by_layer(inputs, record, 1)[0]
    alive = torch.cat([alive, torch.ones(len(alive), steps, dtype=torch.bool)], 1)
    found = []
    for row, columns in enumerate(alive):
        places = positions[..., row : row + 1, :][..., columns]
        out = decoder(inputs_embeds=embeds[row : row + 1, columns], position_ids=places, use_cache=False)
        found.append(model.get_output_embeddings()(out.last_hidden_state[:, -steps - 1 :]))
    return torch.cat(found)


def extended(model: Any, inputs: Inputs, new: Tensor) -> Inputs:
    """Inputs of one forward over the prompt and ``new`` [B, T] but its last token; positions as in ``generate``."""
    steps, first = new.shape[1] - 1, _first(model)
    full = dict(inputs)
    full["input_ids"] = torch.cat([inputs["input_ids"], new[:, :steps]], 1)
    full["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(new[:, :steps])], 1)
    if "mm_token_type_ids" in full:
        full["mm_token_type_ids"] = torch.cat([full["mm_token_type_ids"], torch.zeros_like(new[:, :steps])], 1)
    if not hasattr(model.model, "get_rope_index"):
        full["position_ids"] = positions_of(inputs, steps) + first
    if "token_type_ids" in full:
        last = full["token_type_ids"][:, -1:].expand(-1, steps) if first == 0 else torch.ones_like(new[:, :steps])
        full["token_type_ids"] = torch.cat([full["token_type_ids"], last], 1)
    return full


def _first(model: Any) -> int:
    """First position: 1 in PaliGemma, where new tokens also see causally."""
    return int("PaliGemma" in type(model).__name__)
