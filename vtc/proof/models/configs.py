"""Configs of tiny vision towers and decoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as tf

from .parts import IMG, MROPE, SIDE, TEXT, VE, VID, VISION, VOCAB, VS, lively
from .pieces import PINPOINTS

HYBRID = ["sliding_attention", "full_attention"] * 2
SIGLIP = dict(VISION, vision_use_head=False)
IDS: dict[str, Any] = dict(image_token_id=IMG, video_token_id=VID)
MARKS = dict(IDS, vision_start_token_id=VS, vision_end_token_id=VE)
GLM_MARKS = dict(IDS, image_start_token_id=VS, image_end_token_id=VE, video_start_token_id=15, video_end_token_id=16)
GEMMA4_MARKS = dict(
    IDS, audio_token_id=17, boi_token_id=VS, eoi_token_id=VE, boa_token_id=18, eoa_token_index=19, audio_config=None
)
GEMMA4_VISION = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=3, head_dim=8,
    patch_size=4, pooling_kernel_size=2, position_embedding_size=64,
)  # fmt: skip
QWEN2_5_VISION = dict(
    depth=6, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=4, window_size=32, out_hidden_size=32,
    fullatt_block_indexes=[2, 5], tokens_per_second=2,
)  # fmt: skip
VL3_VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2, patch_size=4)
MOE: dict[str, Any] = dict(moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2)
LINEAR: dict[str, Any] = dict(
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    layer_types=["linear_attention", "full_attention"] * 2,
)
ANYRES: dict[str, Any] = dict(IDS, image_grid_pinpoints=PINPOINTS)
POOLED: dict[str, Any] = dict(ANYRES, spatial_pool_mode="average", spatial_pool_stride=2)
FULL: dict[str, Any] = dict(vision_feature_layer=-1, vision_feature_select_strategy="full")
SPATIAL: dict[str, Any] = dict(rope={"partial_rotary_factor": 1.0})


def build(model: str, config: str, vision: Any, text: Any, **options: Any) -> Any:
    """Model class from config class, vision and text configs and further options of the config."""
    made = getattr(tf, config)(vision_config=vision() if callable(vision) else vision, text_config=text(), **options)
    return seeded(lambda: lively(getattr(tf, model)(made)))


def seeded(make: Callable[[], Any]) -> Any:
    """Make a model: what its constructor draws is the same every time, and the global generator stays where it is."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(0)
        return make()


def clip() -> Any:
    """CLIP, with a [CLS] token."""
    return tf.CLIPVisionConfig(**VISION, projection_dim=16)


def siglip(**extra: Any) -> Any:
    """SigLIP, without one."""
    return tf.SiglipVisionConfig(**SIGLIP, **extra)


def pixtral() -> Any:
    """Pixtral, which takes images of any size."""
    return tf.PixtralVisionConfig(**VISION)


def internvit() -> Any:
    """InternViT."""
    options = dict(VISION, patch_size=[4, 4], image_size=[SIDE, SIDE])
    return tf.InternVLVisionConfig(**options)


def grid_vision(**extra: Any) -> dict[str, Any]:
    """Tower of the Qwen kind."""
    return dict(depth=4, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=4, out_hidden_size=32, **extra)


DEEP = grid_vision(num_position_embeddings=64, deepstack_visual_indexes=[0, 1, 2])


def gemma_text(kind: str, **extra: Any) -> Any:
    """Decoder of the first three generations of Gemma."""
    names = {"gemma": tf.GemmaConfig, "gemma2": tf.Gemma2Config, "gemma3": tf.Gemma3TextConfig}
    return names[kind](**{**TEXT, "head_dim": 8, **extra})


def gemma4_text(small: bool) -> Any:
    """Decoder of Gemma 4: small ones share keys and feed every layer inputs of its own."""
    options = dict(TEXT, head_dim=8, sliding_window=40, layer_types=HYBRID, vocab_size_per_layer_input=VOCAB)
    if small:
        return tf.Gemma4TextConfig(**options, hidden_size_per_layer_input=8, num_kv_shared_layers=2)
    return tf.Gemma4TextConfig(**options, hidden_size_per_layer_input=0, use_bidirectional_attention="vision")


def cohere_text() -> Any:
    """Decoder of Cohere."""
    return tf.Cohere2Config(**TEXT, sliding_window=64, layer_types=HYBRID, logit_scale=1.0)


def vl3_text() -> dict[str, Any]:
    """Decoder of VideoLLaMA 3."""
    return {**TEXT, "model_type": "qwen2"}


def rope_text(rope: dict[str, Any] | None = None, **extra: Any) -> Callable[[], dict[str, Any]]:
    """Decoder with positions of three dimensions."""
    return lambda: {**TEXT, "rope_parameters": {**MROPE, **(rope or {})}, **extra}
