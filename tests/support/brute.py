"""Brute force for a random call: the unpatched model over everything at once, dropped columns hidden layer by layer."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from vtc.engine.seams import name_of
from vtc.proof.masking import masked, visual_columns

from support.layouts import Layout


def alive_layers(layout: Layout, record: Any, layers: int) -> Tensor:
    """Bool [layers, B, N]: columns that exist in each decoder layer."""
    alive = layout.real.expand(layers, -1, -1).clone() if layout.seen is None else None
    if alive is None:
        alive = torch.ones(layers, *layout.real.shape, dtype=torch.bool)
    for log, where in visual_columns(layout.inputs, record) if record is not None else ():
        for start, kept in log.cuts:
            gone = torch.ones(len(where), dtype=torch.bool)
            gone[kept] = False
            alive[start:, log.row, where[gone]] = False
    return alive


def closed_up(layout: Layout, alive: Tensor, plan: Any) -> dict[int, Tensor] | None:
    """Position ids by layer where some cut closes the gaps it makes; None where none does."""
    if layout.case.startswith("qwen"):
        return None
    places = layout.places
    if places is None:
        places = torch.arange(layout.total).expand(layout.real.shape)
    closing = [0] if plan.renumbers else []
    closing += [k for k, stages in plan.cuts.items() if all(s.positions == "renumber" for s in stages)]
    if not closing:
        return None
    out = {0: places} if 0 not in closing else {}
    for layer in closing:
        gone = (layout.real & ~alive[layer]).long()
        out[layer] = places - gone.cumsum(1)
    return out


@contextmanager
def extra(model: Any, seen: Tensor | None) -> Any:
    """Hide the pairs that are not in ``seen`` [B, N, N]; inside of :func:`masked`, which leaves additive masks."""
    hooks = []
    for layer in model.get_decoder().layers if seen is not None else ():
        hooks.append(layer.register_forward_pre_hook(partial(_close, seen), with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _close(seen: Tensor, module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    kwargs["attention_mask"] = kwargs["attention_mask"].masked_fill(~seen[:, None], -1e30)
    return args, kwargs


def later_pairs(layout: Layout) -> Tensor | None:
    """Pairs that stay open when turns hide earlier columns: bool [B, N, N], None without any."""
    if all(turn.hidden is None for turn in layout.turns):
        return None
    seen = torch.ones(len(layout.rows), layout.total, layout.total, dtype=torch.bool)
    start, hidden = layout.length, torch.zeros(len(layout.rows), layout.length, dtype=torch.bool)
    for turn in layout.turns:
        end = start + turn.ids.shape[1]
        if turn.hidden is not None:
            hidden = hidden | turn.hidden
        seen[:, start:end, : layout.length] &= ~hidden[:, None]
        start = end
    return seen


def whole(layout: Layout) -> dict[str, Any]:
    """Arguments of one forward over the prompt and all that follows it."""
    full = dict(layout.inputs)
    more = [turn.ids for turn in layout.turns]
    full["input_ids"] = torch.cat([full["input_ids"], *more], 1)
    steps = layout.total - layout.length
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in full:
            full[name] = torch.nn.functional.pad(full[name], (0, steps))
    if layout.seen is not None:
        full["attention_mask"] = torch.zeros(layout.seen[:, None].shape).masked_fill(~layout.seen[:, None], -1e30)
    elif "attention_mask" in full:
        full["attention_mask"] = layout.real.long()
    if layout.places is not None:
        full["position_ids"] = layout.places
    return full


@torch.no_grad()
def reference(model: Any, layout: Layout, record: Any = None, plan: Any = None) -> tuple[Any, Tensor]:
    """Output of the unpatched model with what ``record`` dropped hidden, and which columns exist in which layer."""
    decoder = model.get_decoder()
    alive = alive_layers(layout, record, len(decoder.layers))
    rope = None if plan is None else closed_up(layout, alive, plan)
    cache = None if layout.cache == "off" else DynamicCache(config=decoder.config)
    with masked(model, alive, rope), extra(model, later_pairs(layout)):
        out = model(
            **whole(layout),
            use_cache=cache is not None,
            **{name_of("cache", type(model).forward): cache},
            output_hidden_states=layout.outputs,
            output_attentions=layout.outputs and layout.attention == "eager",
        )
    return out, alive
