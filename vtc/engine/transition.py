"""Hooks that compare what enters the attention and the feed-forward module of a decoder layer with what leaves."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from ..core.stage import Need
from ..core.transition import transition
from .attention_tap import active
from .call import Call

MODULES = ("self_attn", "mlp")


def watch(layer: nn.Module, index: int, needs: list[Need]) -> list[Any]:
    """Hook both modules of a layer; while somebody collects, each appends its transition for every need.

    Raises
    ------
    ValueError
        The layer has no modules of these names.
    """
    found = [getattr(layer, name, None) for name in MODULES]
    missing = [name for name, module in zip(MODULES, found, strict=True) if not isinstance(module, nn.Module)]
    if missing:
        raise ValueError(
            f"Decoder layer {index} ({type(layer).__name__}) has no {' and no '.join(map(repr, missing))}: token "
            "transition cannot be measured. Use a method without it, such as 'fastv' or 'pyramiddrop'."
        )
    hook = functools.partial(_compare, tuple(needs))
    return [m.register_forward_hook(hook, with_kwargs=True) for m in found if isinstance(m, nn.Module)]


def _compare(needs: tuple[Need, ...], module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
    if torch.compiler.is_compiling():
        return
    collector = active()
    if collector is None or not isinstance(collector.context, Call):
        return
    given = args[0] if args else kwargs["hidden_states"]
    made = output[0] if isinstance(output, tuple) else output
    if given.shape != made.shape or given.ndim != 3:
        raise ValueError(
            f"{type(module).__name__} turns {tuple(given.shape)} into {tuple(made.shape)}: token transition needs "
            "input and output of one shape [batch, tokens, width]."
        )
    with torch.no_grad():
        for need in needs:
            direction, domain = need.option if isinstance(need.option, tuple) else ("signed", "sequence")
            counted = counted_tokens(collector.context, given, domain == "image")
            collector.values.setdefault(need, []).append(transition(given, made, counted, direction))


def counted_tokens(call: Call, hidden: Tensor, visual_only: bool) -> Tensor | None:
    """Physical columns over which directions are normalised: no padding, optionally visual tokens only."""
    segment = call.segments[-1]
    valid = segment.valid
    if not visual_only:
        return None if valid is None else valid.to(hidden.device)
    visual = torch.stack(list(call.placeholders.values())).any(0).to(hidden.device)
    if segment.packing is not None:
        visual = segment.packing.take(visual)
    return visual if valid is None else visual & valid.to(hidden.device)
