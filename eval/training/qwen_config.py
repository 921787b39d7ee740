"""The configuration of tiny-qwen2_5-vl."""

from __future__ import annotations

from typing import Any

from .qwen_pool import CELL, WINDOW
from .vocabulary import QWEN


def build_config() -> Any:
    """Four vision blocks (two with windows), six decoder layers, M-RoPE: 4.0 million parameters."""
    from transformers import Qwen2_5_VLConfig

    ids = QWEN.tokens
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(ids),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 6,
            "num_key_value_heads": 6,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "pad_token_id": 0,
            "eos_token_id": 2,
            "bos_token_id": None,
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 384,
            "num_heads": 4,
            "patch_size": CELL // 2,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": WINDOW * CELL,
            "out_hidden_size": 192,
            "fullatt_block_indexes": [1, 3],
            "tokens_per_second": 1,
        },
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        tie_word_embeddings=False,
    )
