"""Qwen3.5: linear-attention layers keep no tokens, so nothing can be dropped behind them."""

from __future__ import annotations

from typing import Any, ClassVar

from ._grid import GridAdapter


class Qwen3_5Adapter(GridAdapter):
    """Linear layers are read from the configuration; cuts before them are refused."""

    family: ClassVar[str] = "qwen3_5"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5",)
    notes: ClassVar[str] = "hybrid attention: methods before the language model only"
    typical: ClassVar[dict[str, Any]] = {"linear_layers": tuple(i for i in range(32) if i % 4 != 3)}
