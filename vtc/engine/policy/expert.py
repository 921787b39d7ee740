"""A second decoder that reads the first one's cache (the action expert of pi0): its masks, and what it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...core.stage import Need
from ...core.statistics import AttentionCall
from ...core.statistics.rows import mean_rows
from .. import cache as kv
from ..forward import current
from ..measure.tap import AttentionTap, Collector, collecting
from ..seams import Arguments
from ..types import CacheLayer, Called
from ..wrapping import Undo, Wrapped

if TYPE_CHECKING:
    from ..site import Site
    from .actions import Actions


class Expert:
    """Serves the expert's layers, if the model has one.

    The model builds one mask for all layers, as wide as the first layer of the prefix cache and the suffix. Layers
    whose prefix is shorter get the columns that are left: every suffix row sees all of the prefix, and what rows see of
    the suffix is kept.
    """

    def __init__(self, site: Site) -> None:
        self.site = site

    def install(self, undo: Undo) -> None:
        """Hook its layers."""
        expert = self.site.adapter.policy.expert(self.site.model)
        for index, layer in enumerate(() if expert is None else expert.layers):
            undo.before(layer, ServedLayer(index), with_kwargs=True)


class ServedLayer:
    """Pre-hook of one layer of the expert."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Called | None:
        """Give the layer the mask of the prefix that its cache layer holds."""
        given = Arguments(module, args, kwargs)
        layer = kv.layer_at(given["cache"], self.index)
        if not isinstance(layer, kv.Shrunk):
            return None
        layer.helped = True
        if given["mask"] is not None:
            given["mask"] = prefix_mask(given["mask"], layer, given.hidden.shape[1])
        return given.call()


def prefix_mask(mask: Tensor, layer: CacheLayer, width: int) -> Tensor:
    """Mask of ``width`` suffix rows for a prefix that lost columns: the columns left, then the suffix as it was.

    Parameters
    ----------
    mask : Tensor [B or 1, 1, width, P + width] or [B, P + width]
        Bool, integers (1: seen) or additive floats.
    """
    held = kv.stored(layer)
    valid = kv.past_valid(layer)
    valid = mask.new_ones(mask.shape[0], held, dtype=torch.bool) if valid is None else valid.to(mask.device)
    if mask.is_floating_point():
        seen = torch.zeros(valid.shape, dtype=mask.dtype, device=mask.device)
        seen = seen.masked_fill(~valid, torch.finfo(mask.dtype).min)
    else:
        seen = valid.to(mask.dtype)
    tail = mask[..., mask.shape[-1] - width :]
    if mask.ndim == 4:
        seen = seen[:, None, None].expand(-1, tail.shape[1], tail.shape[2], -1)
        tail = tail.expand(seen.shape[0], -1, -1, -1)
    return torch.cat([seen, tail], -1)


class ExpertQueries:
    """Measures the action rows of the expert, which are the last ones of its suffix."""

    def __init__(self, actions: Actions, need: Need) -> None:
        self.actions, self.need = actions, need

    def __call__(self, attention: AttentionCall, collector: Collector) -> Tensor:
        """Mean over the action rows: [B, M]."""
        batch, _, queries, _ = attention.q.shape
        site = self.actions.site
        number = min(queries, site.adapter.policy.expert_rows(site.model))
        rows = torch.arange(queries - number, queries, device=attention.q.device).expand(batch, -1)
        shares = mean_rows(attention, rows, torch.ones_like(rows, dtype=torch.bool))
        return self.actions.tally(collector.context).pick(self.need.layer, shares, None)


def watch_expert(actions: Actions, needs: list[Need], undo: Undo) -> None:
    """Tap the expert's attention in the layers a feedback asks for.

    Raises
    ------
    ValueError
        A layer cannot be read.
    """
    expert = actions.site.adapter.policy.expert(actions.site.model)
    for need in needs:
        module = actions.site.attention(expert.layers[need.layer])
        if module is None:
            raise ValueError(f"Layer {need.layer} of the expert has no attention module to read from.")
        undo.add(AttentionTap(module, {need: ExpertQueries(actions, need)}))
    undo.wrap(expert, "forward", ExpertRun(actions))


class ExpertRun:
    """One pass of the expert: what its action rows look at is added to the policy call."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions

    def __call__(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """Run the expert and collect."""
        handle = self.actions.handle
        forward, tally = current(handle), handle.state.pending
        cache = Arguments(seat.owner, args, kwargs)["cache"]
        if forward is None or tally is None or not tally.follows(cache):
            return seat.original(*args, **kwargs)
        forward.notes[type(self.actions)] = tally
        with collecting(forward) as forward.meter.collector:
            output = seat.original(*args, **kwargs)
        self.actions.stepped(forward)
        return output
