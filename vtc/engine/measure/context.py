"""What statistics of the decoder ask about the tokens of a prompt: its query rows, its text, its last key."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...core.statistics import Context, Option
from ..cache import layer_at, stored
from ..forward import Forward


class DecoderContext(Context):
    """Tokens of one forward as they enter decoder layer ``layer``, in physical columns."""

    def __init__(self, forward: Forward, layer: int) -> None:
        self.forward, self.layer = forward, layer

    def queries(self, option: Option) -> tuple[Tensor, Tensor]:
        """See :func:`query_columns`."""
        return query_columns(self.forward, option)

    def kinds(self, system: Option) -> tuple[Tensor, Tensor]:
        """See :func:`kinds_of`."""
        return kinds_of(self.forward, system)  # type: ignore[arg-type]

    def counted(self, visual_only: bool) -> Tensor | None:
        """See :func:`counted_tokens`."""
        return counted_tokens(self.forward, visual_only)

    def end(self, keys: int) -> int:
        """See :func:`end_of_keys`."""
        return end_of_keys(self.forward, self.layer, keys)


def end_of_keys(forward: Forward, index: int, keys: int) -> int:
    """Key column behind this forward's last one: static caches have blank slots after it."""
    layer: Any = layer_at(forward.past.cache, index)
    return min(keys, stored(layer)) if getattr(layer, "is_compileable", False) else keys


def query_columns(forward: Forward, option: Any) -> tuple[Tensor, Tensor]:
    """Physical columns [B, R] of the query rows and which of them count [B, R].

    ``"last"``: the last prompt token. ``"text"``: all tokens after the last visual one, up to the same; ``"inner"``:
    these but for the first and the last. ``"all"``: all tokens up to the same.
    """
    layout, last = forward.tokens, end_of_prompt(forward)
    if option == "last":
        columns, counts = last[:, None], (last >= 0)[:, None]
    else:
        place = torch.arange(layout.length, device=layout.real.device).expand_as(layout.real)
        chosen = layout.real & (place <= last[:, None])
        if option != "all":
            after = torch.where(layout.visual, place, -1).amax(1, keepdim=True)
            inner = int(option == "inner")
            chosen = chosen & (place > after + inner) & (place <= last[:, None] - inner)
        width = max(1, int(chosen.sum(1).max()))
        columns = torch.argsort(chosen.to(torch.int8), dim=1, stable=True)[:, -width:]
        counts = chosen.gather(1, columns)
    return layout.place(columns), counts


def end_of_prompt(forward: Forward) -> Tensor:
    """Logical column of the last prompt token of every row [B]; -1 where a row has none."""
    if forward.end is None:
        raise RuntimeError("The end of this prompt was not noted.")
    return forward.end


def kinds_of(forward: Forward, system: int | None) -> tuple[Tensor, Tensor]:
    """Physical columns that are text and those that are visual: bool [B, K] each; system prompt and padding neither.

    ``system`` is the number of leading real tokens that make the system prompt; None: all before the first image. The
    token right before an image, ``<|vision_start|>`` and the like, is no text.
    """
    layout, last = forward.tokens, end_of_prompt(forward)
    real, now = layout.real, layout.now
    place = torch.arange(layout.length, device=real.device).expand_as(real)
    visual = layout.visual & real
    head = visual.cumsum(1) == 0 if system is None else real.cumsum(1) <= system
    opening = torch.nn.functional.pad(visual[:, 1:], (0, 1))
    text = real & ~visual & ~head & ~opening & (place <= last[:, None])
    text, visual = layout.take(text), layout.take(visual)
    return (text, visual) if now.packing is None or now.valid is None else (text & now.valid, visual & now.valid)


def counted_tokens(forward: Forward, visual_only: bool) -> Tensor | None:
    """Physical columns [B, K] over which directions are normalised: no padding, optionally visual tokens only."""
    layout = forward.tokens
    valid = layout.now.valid
    if not visual_only:
        return valid
    visual = layout.take(layout.visual)
    return visual if valid is None else visual & valid.to(visual.device)
