"""A second decoder that reads the first one's cache (the action expert of pi0): its masks, and what it looks at."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..core.stats import AttentionCall, mean_rows
from . import cache as kv
from .actions import wanted
from .attention_tap import AttentionTap, Collector, start_collecting
from .call import current
from .seams import cache_of

if TYPE_CHECKING:
    from .decoder import DecoderEngine


class ExpertEngine:
    """Hooks on the expert's layers; does nothing for models without one.

    The model builds one mask for all layers, as wide as the first layer of the prefix cache and the suffix. Layers
    whose prefix is shorter get the columns that are left: every suffix row sees all of the prefix, and what rows see of
    the suffix is kept.
    """

    def __init__(self, engine: DecoderEngine) -> None:
        self.engine = engine
        self.expert = engine.adapter.expert(engine.model)
        self.taps: list[AttentionTap] = []

    def install(self) -> list[Any]:
        """Register the hooks and return their handles."""
        if self.expert is None:
            return []
        actions, layers = self.engine.actions, self.expert.layers
        for need in wanted(actions.feedback) if actions.kind == "expert" else []:
            module = self.engine.adapter.attention(layers[need.layer])
            if module is None:
                raise ValueError(f"Layer {need.layer} of the expert has no attention module to read from.")
            self.taps.append(AttentionTap(module, {need: functools.partial(self._share, need.layer)}))
        handles = [
            layer.register_forward_pre_hook(functools.partial(self._layer_pre, i), with_kwargs=True)
            for i, layer in enumerate(layers)
        ]
        if self.taps:
            handles.append(self.expert.register_forward_pre_hook(self._pre, with_kwargs=True))
            handles.append(self.expert.register_forward_hook(self._post, with_kwargs=True))
        return handles

    def remove(self) -> None:
        """Take the taps off."""
        while self.taps:
            self.taps.pop().remove()

    def _layer_pre(self, index: int, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        layer = getattr(cache_of(kwargs), "layers", ())[index : index + 1]
        mask = kwargs.get("attention_mask")
        if not layer or not isinstance(layer[0], kv.Shrunk) or mask is None:
            return None
        hidden = args[0] if args else kwargs["hidden_states"]
        return args, {**kwargs, "attention_mask": prefix_mask(mask, layer[0], hidden.shape[1])}

    def _pre(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        call = current(self.engine.owner) if self.engine.enabled else None
        tally = self.engine.owner.state.pending
        if call is None or tally is None or not tally.follows(cache_of(kwargs)):
            return
        call.tally = tally
        call.collector, call.collect_token = start_collecting(call)

    def _post(self, module: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
        call = current(self.engine.owner)
        if call is not None and call.collect_token is not None:
            self.engine.actions.end_step(call)
            self.engine.taps.stop(call)

    def _share(self, layer: int, attention: AttentionCall, collector: Collector) -> Tensor:
        """Mean over the action rows, which are the last ones of the suffix: [B, M]."""
        batch, _, queries, _ = attention.q.shape
        number = min(queries, self.engine.adapter.expert_rows(self.engine.model))
        rows = torch.arange(queries - number, queries, device=attention.q.device).expand(batch, -1)
        shares = mean_rows(attention, rows, torch.ones_like(rows, dtype=torch.bool))
        return collector.context.tally.pick(layer, shares, None)


def prefix_mask(mask: Tensor, layer: Any, width: int) -> Tensor:
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
