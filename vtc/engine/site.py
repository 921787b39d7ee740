"""The modules of a model that a patch acts on, found once."""

from __future__ import annotations

from typing import Any

from torch import nn

from vtc.adapters import Adapter

from ..core.stage import ModelFacts
from .plan import Plan


class Site:
    """Model, base model, decoder and what the adapter says of them.

    Attributes
    ----------
    model, base, decoder : nn.Module
    layers : nn.ModuleList
        Decoder layers.
    token_ids : dict of str to int
        Placeholder ids by modality.
    """

    def __init__(self, model: nn.Module, adapter: Adapter, facts: ModelFacts) -> None:
        self.adapter, self.facts = adapter, facts
        self.model: Any = model
        self.base: Any = adapter.base(model)
        self.decoder: Any = adapter.decoder(model)
        self.layers = adapter.layers(model)
        self.token_ids = adapter.token_ids(model)
        self.added_levels = adapter.deepstack(model)

    def adds_rows(self, plan: Plan) -> bool:
        """True when tokens are dropped before the model has added the last rows to its early layers."""
        return bool(plan.cuts) and min(plan.cuts) < self.added_levels

    def attention(self, layer: nn.Module) -> nn.Module | None:
        """Attention module of a decoder layer."""
        return self.adapter.attention(layer)
