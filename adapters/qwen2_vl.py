"""Qwen2-VL and Qwen2.5-VL: dynamic resolution, 2 x 2 patch merger, M-RoPE, images and video."""

from __future__ import annotations

from ._grid import Grid
from .base import Adapter


class Qwen2VLAdapter(Adapter):
    """Every encoder block attends to a whole image or frame."""

    family = "qwen2_vl"
    model_types = ("qwen2_vl",)
    notes = "images and video, M-RoPE"
    towers = ("visual",)
    multimodal_rope = True
    image = Grid()
    video = Grid(temporal=True)


class Qwen2_5_VLAdapter(Qwen2VLAdapter):
    """Encoder blocks run in window order, and some of them attend to windows only."""

    family = "qwen2_5_vl"
    model_types = ("qwen2_5_vl",)
    notes = "images and video, window attention, M-RoPE"
    typical = {"global_layers": (7, 15, 23)}
    global_field = "vision_config.fullatt_block_indexes"
    image = Grid(windowed=True)
    video = Grid(windowed=True, temporal=True)
