"""Statistics that stages may need: one file computes each, one registry says everything else about them.

``class_row``
    Attention of the [CLS] query to every patch, mean over heads.
``received``
    Attention a token receives, mean over heads and over the queries of its segment.
``focus``
    Two-pass received attention (VFlowOpt); ``option`` = threshold t.
``entropy``
    Softmax over the patches of a partition of their grey-level entropy in bits; ``option`` = "paper" or "wrapped"
    (VFlowOpt).
``query_rows``
    Attention of chosen rows to every token, mean over heads and rows; ``option`` = "last", "text" (all behind the last
    image), "inner" (the same without its first and last row) or "all" (the whole prompt, padding and action
    placeholders excluded).
``next_rows``
    The same of the layer a decoder stage stands before, computed ahead from the rows as they enter it (PyramidDrop,
    TransPrune).
``masses``
    ``[2]`` for the whole row, not per token: mean attention of text rows to the visual tokens, and of visual rows to
    the text; ``option`` = length of the system prompt in tokens, None: all before the first image (ToDRE).
``transition``
    How much attention and FFN change a token (TransPrune); ``option`` = (direction, domain).
``actions``
    Attention of the action queries, asked for by a :class:`vtc.core.stage.Feedback`.
``hidden_in``
    The rows that enter the language model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..words import nearest, shown
from .attention import AttentionCall, received
from .context import Context, Option
from .entropy import entropy_shares
from .focus import focus_of_call
from .relevance import relevance
from .rows import class_row, mean_rows
from .transition import token_change

__all__ = ["STATISTICS", "AttentionCall", "Context", "Option", "Stat", "Statistic", "Tower", "statistic"]

Tower = Literal["vision", "decoder"]
Stat = Literal[
    "class_row",
    "received",
    "focus",
    "entropy",
    "query_rows",
    "next_rows",
    "masses",
    "transition",
    "actions",
    "hidden_in",
]
Source = Literal["attention", "ahead", "modules", "inputs", "pixels", "feedback"]


def _nothing(*given: object) -> Tensor:
    raise TypeError("This statistic is not computed by a function of its own: see its source.")


@dataclass(frozen=True)
class Statistic:
    """Everything the engine and the adapters must know of one statistic.

    Parameters
    ----------
    name : str
    towers : tuple of {"vision", "decoder"}
        Where it exists.
    source : str
        What it is read from: ``"attention"``, the kernel call of the layer; ``"ahead"``, the same before the layer
        runs; ``"modules"``, input and output of the layer's attention and of its feed-forward part, each on its own;
        ``"inputs"``, the rows that enter the tower; ``"pixels"``; ``"feedback"``, whoever watches the actions.
    compute : callable
        By source: ``compute(call, option, context)`` for attention; ``compute(given, made, option, context)`` for
        modules, rows [B, K, D] each; ``compute(pixels, option, mean, std)`` for pixels [N, 3, P] of one partition.
        ``inputs`` are taken as they are, and feedback is computed by who watches.
    per_token : bool
        One value per column, not a few numbers per row.
    class_column : bool
        The column of [CLS] is among the values, in towers that have one.
    summed : bool
        Values of one layer are added up; else the last one counts.
    layer : int or None
        The one layer it exists at; None: at all.
    """

    name: Stat
    towers: tuple[Tower, ...]
    source: Source = "attention"
    compute: Callable[..., Tensor] = _nothing
    per_token: bool = True
    class_column: bool = True
    summed: bool = False
    layer: int | None = None

    def check(self, tower: str, layer: int) -> None:
        """Raise a ValueError where the statistic does not exist."""
        if tower not in self.towers:
            here = sorted(s.name for s in STATISTICS.values() if tower in s.towers)
            allowed = f"allowed there: {', '.join(here)}" if here else "the towers are 'vision' and 'decoder'"
            raise ValueError(f"The statistic {self.name!r} does not exist in tower {shown(tower)}; {allowed}.")
        if self.layer is not None and layer != self.layer:
            raise ValueError(
                f"The statistic {self.name!r} exists at layer {self.layer} only, not at layer {shown(layer)}."
            )


def _received(call: AttentionCall, option: Option, context: Context) -> Tensor:
    return received(call)


def _class_row(call: AttentionCall, option: Option, context: Context) -> Tensor:
    return class_row(call)


def _focus(call: AttentionCall, option: Option, context: Context) -> Tensor:
    return focus_of_call(call, float(option), context.skip)  # type: ignore[arg-type]


def _query_rows(call: AttentionCall, option: Option, context: Context) -> Tensor:
    columns, counts = context.queries(option or "last")
    return mean_rows(call, columns.to(call.q.device), counts.to(call.q.device))


def _masses(call: AttentionCall, option: Option, context: Context) -> Tensor:
    text, visual = (x.to(call.q.device) for x in context.kinds(option))
    return relevance(call, text, visual, context.end(call.k.shape[2]) - text.shape[1])


STATISTICS: dict[str, Statistic] = {
    s.name: s
    for s in (
        Statistic("class_row", ("vision",), compute=_class_row, class_column=False),
        Statistic("received", ("vision", "decoder"), compute=_received),
        Statistic("focus", ("vision",), compute=_focus),
        Statistic("entropy", ("vision",), "pixels", entropy_shares, class_column=False),
        Statistic("query_rows", ("decoder",), compute=_query_rows),
        Statistic("next_rows", ("decoder",), "ahead", _query_rows),
        Statistic("masses", ("decoder",), compute=_masses, per_token=False),
        Statistic("transition", ("decoder",), "modules", token_change, summed=True),
        Statistic("actions", ("decoder",), "feedback"),
        Statistic("hidden_in", ("decoder",), "inputs", layer=0),
    )
}
"""All statistics by name."""


def statistic(name: str) -> Statistic:
    """Look up a statistic.

    Raises
    ------
    ValueError
        There is none of this name.
    """
    found = STATISTICS.get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(
            f"There is no statistic {shown(name)}.{nearest(name, STATISTICS)} Allowed: {', '.join(sorted(STATISTICS))}."
        )
    return found
