"""VideoLLaMA3: SigLIP with 2-D positions, merge size per image, 1-D positions in the decoder."""

from __future__ import annotations

from ._grid import Grid
from .base import Adapter


class VideoLlama3Adapter(Adapter):
    """Its processor's own compression drops rows of videos that repeat the frame before."""

    family = "video_llama_3"
    model_types = ("video_llama_3",)
    notes = "images and video, merge size per image"
    towers = ("vision_model",)
    image = Grid(merge_sizes=True)
    video = Grid(merge_sizes=True, temporal=True, kept_by="video_compression_mask")
