"""Qwen3-VL with a mixture-of-experts decoder."""

from __future__ import annotations

from typing import ClassVar

from ._grid import GridAdapter


class Qwen3VLMoeAdapter(GridAdapter):
    """As Qwen3-VL."""

    family: ClassVar[str] = "qwen3_vl_moe"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl_moe",)
    notes: ClassVar[str] = "mixture of experts; images and video, M-RoPE, deepstack"
