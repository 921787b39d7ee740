"""Qwen3.5: linear-attention layers keep no tokens, so nothing can be dropped behind them."""

from __future__ import annotations

from .qwen2_vl import Qwen2VLAdapter


class Qwen3_5Adapter(Qwen2VLAdapter):
    """Linear layers are read from the configuration; cuts before them are refused."""

    family = "qwen3_5"
    model_types = ("qwen3_5",)
    notes = "hybrid attention: methods before the language model only"
    typical = {"linear_layers": tuple(i for i in range(32) if i % 4 != 3)}
