"""GLM-4.1V: images and video behind the same placeholder, M-RoPE, a convolution that merges 2 x 2 patches."""

from __future__ import annotations

from .qwen2_vl import Qwen2VLAdapter


class Glm4vAdapter(Qwen2VLAdapter):
    """A call holds images or videos, not both: the model itself cannot tell them apart."""

    family = "glm4v"
    model_types = ("glm4v",)
    notes = "images or video (one placeholder for both), M-RoPE"
    placeholders = {"image": ("image_token_id",), "video": ("image_token_id",)}
