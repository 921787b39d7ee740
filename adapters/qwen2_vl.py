"""Qwen2-VL: dynamic resolution, 2 x 2 patch merger, M-RoPE, images and video."""

from __future__ import annotations

from typing import ClassVar

from ._grid import GridAdapter


class Qwen2VLAdapter(GridAdapter):
    """Every encoder block attends to a whole image or frame."""

    family: ClassVar[str] = "qwen2_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl",)
    notes: ClassVar[str] = "images and video, M-RoPE"
