"""The processors of the embedded models."""

from __future__ import annotations

from typing import Any

from vtc.compat import require_torchvision

from .llava import GRID, SIDE
from .qwen_pool import CELL
from .vocabulary import LLAVA, QWEN, build_tokenizer

LLAVA_TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% elif c.type == 'text' %}{{ c.text }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)
QWEN_TEMPLATE = """\
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
LARGEST = 400
"""Most tokens per image of tiny-qwen2_5-vl."""


def llava_processor() -> Any:
    """Build the ``LlavaProcessor``: squeeze to 168 x 168 pixels without cropping, scale to [-1, 1]."""
    from transformers import CLIPImageProcessor, LlavaProcessor

    images = CLIPImageProcessor(
        size={"height": SIDE, "width": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(LLAVA, "<s>", "</s>", "<pad>", ["<image>"]),
        patch_size=SIDE // GRID,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


def qwen_processor() -> Any:
    """Build the ``Qwen2_5_VLProcessor``: sides become multiples of 20 pixels, at most 400 tokens per image.

    Raises
    ------
    ImportError
        torchvision is missing, which the video processor of transformers needs.
    """
    require_torchvision()
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    facts: dict[str, Any] = {
        "patch_size": CELL // 2,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"shortest_edge": 16 * CELL * CELL, "longest_edge": LARGEST * CELL * CELL},
    }
    extra = [token for token in QWEN.special if token.startswith("<|") and token != "<|endoftext|>"]
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**facts),
        tokenizer=build_tokenizer(QWEN, None, "<|im_end|>", "<|endoftext|>", extra),
        video_processor=Qwen2VLVideoProcessor(**facts, do_sample_frames=False),
        chat_template=QWEN_TEMPLATE,
    )
