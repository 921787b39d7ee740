"""Qwen3-VL: Qwen2-VL with rows added to early decoder layers (deepstack) and frames apart between time stamps."""

from __future__ import annotations

from .qwen2_vl import Qwen2VLAdapter


class Qwen3VLAdapter(Qwen2VLAdapter):
    """The engine finds the number of deepstack layers in the configuration."""

    family = "qwen3_vl"
    model_types = ("qwen3_vl",)
    notes = "images and video, M-RoPE, deepstack"


class Qwen3VLMoeAdapter(Qwen3VLAdapter):
    """With a mixture-of-experts decoder."""

    family = "qwen3_vl_moe"
    model_types = ("qwen3_vl_moe",)
    notes = "mixture of experts; images and video, M-RoPE, deepstack"
