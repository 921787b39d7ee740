"""Hooks that compare what enters the attention and the feed-forward module of a decoder layer with what leaves."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...core.stage import Need
from ..forward import Forward
from ..seams import Arguments, eagerly
from ..wrapping import Undo
from .context import DecoderContext
from .tap import active

MODULES = ("self_attn", "mlp")


class Watch:
    """Appends, while somebody collects, the transition of one module's tokens for every need."""

    def __init__(self, needs: list[Need]) -> None:
        self.needs = tuple(needs)

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        """Forward hook."""
        if not torch.compiler.is_compiling():
            self.compare(module, args, kwargs, output)
        elif Arguments(module, args, kwargs).hidden.shape[1] > 1:
            eagerly(self.compare, module, args, kwargs, output)

    def compare(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        """Measure one run of the module.

        Raises
        ------
        ValueError
            It changes the shape of its rows.
        """
        collector = active()
        if collector is None or not isinstance(collector.context, Forward):
            return
        given = Arguments(module, args, kwargs).hidden
        made = output[0] if isinstance(output, tuple) else output
        if given.shape != made.shape or given.ndim != 3:
            raise ValueError(
                f"{type(module).__name__} turns {tuple(given.shape)} into {tuple(made.shape)}: token transition needs "
                "input and output of one shape [batch, tokens, width]."
            )
        with torch.no_grad():
            for need in self.needs:
                context = DecoderContext(collector.context, need.layer)
                collector.values.setdefault(need, []).append(need.statistic.compute(given, made, need.option, context))


def watch(layer: nn.Module, index: int, needs: list[Need], undo: Undo) -> None:
    """Hook both modules of a layer.

    Raises
    ------
    ValueError
        The layer has no modules of these names.
    """
    found: list[Any] = [getattr(layer, name, None) for name in MODULES]
    missing = [name for name, module in zip(MODULES, found, strict=True) if not isinstance(module, nn.Module)]
    if missing:
        raise ValueError(
            f"Decoder layer {index} ({type(layer).__name__}) has no {' and no '.join(map(repr, missing))}: token "
            "transition cannot be measured. Use a method without it, such as 'fastv' or 'pyramiddrop'."
        )
    hook = Watch(needs)
    for module in found:
        undo.behind(module, hook, with_kwargs=True)
