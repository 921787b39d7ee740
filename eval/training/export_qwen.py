"""The processor of tiny-qwen2_5-vl."""

from __future__ import annotations

from typing import Any

from .qwen_pool import CELL
from .vocabulary import QWEN, build_tokenizer

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }} {% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type == 'text' -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}<|im_end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant {% endif -%}
"""
LARGEST = 400 * CELL * CELL


def build_processor() -> Any:
    """Build the ``Qwen2_5_VLProcessor``: sides become multiples of 20 pixels, at most 400 tokens per image.

    Raises
    ------
    ImportError
        torchvision is missing, which the video processor of transformers needs.
    """
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    facts: dict[str, Any] = {
        "patch_size": CELL // 2,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 16 * CELL * CELL, "longest_edge": LARGEST},
    }
    end, pad = "<|im_end|>", "<|endoftext|>"
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**facts),
        tokenizer=build_tokenizer(QWEN, None, end, pad, [t for t in QWEN.special if t.startswith("<|")][1:]),
        video_processor=Qwen2VLVideoProcessor(**facts, do_sample_frames=False),
        chat_template=CHAT_TEMPLATE,
    )
