"""Qwen3-VL: Qwen2-VL with rows added to early decoder layers (deepstack) and frames apart between time stamps."""

from __future__ import annotations

from typing import ClassVar

from ._grid import GridAdapter


class Qwen3VLAdapter(GridAdapter):
    """The engine finds the number of deepstack layers in the configuration."""

    family: ClassVar[str] = "qwen3_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl",)
    notes: ClassVar[str] = "images and video, M-RoPE, deepstack"
