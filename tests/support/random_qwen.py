"""A tiny Qwen2.5-VL built in code: real architecture, real processor, random weights."""

from __future__ import annotations

from typing import Any

import torch

from vtc.compat import require_torchvision

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
MAX_PIXELS = 384 * 28 * 28
"""At most 384 tokens of 28 x 28 pixels per image."""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'video' -%}<|vision_start|><|video_pad|><|vision_end|>
{%- elif part.type == 'text' -%}{{ part.text }}
{%- endif -%}
{%- endfor -%}
{%- endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}
"""


def build_tokenizer() -> Any:
    """Byte-level tokenizer, one token per byte: it takes any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[3:]),
        padding_side="left",
    )


def build_processor() -> Any:
    """Build the ``Qwen2_5_VLProcessor``; images and videos are cut to :data:`MAX_PIXELS`.

    Raises
    ------
    ImportError
        torchvision is missing, which the video processor of transformers needs.
    """
    require_torchvision()
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": MAX_PIXELS}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=dict(size)),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size=dict(size)),
        chat_template=CHAT_TEMPLATE,
    )


def build_config(vocabulary: int) -> Any:
    """Build the configuration: 4 vision blocks (2 with windows), 6 decoder layers, about 1.3 M parameters."""
    from transformers import Qwen2_5_VLConfig

    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            "pad_token_id": 0,
            "eos_token_id": 2,
            "bos_token_id": None,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "patch_size": 14,
            "window_size": 112,
            "out_hidden_size": 128,
            "fullatt_block_indexes": [1, 3],
            "tokens_per_second": 2,
        },
        vision_start_token_id=3,
        vision_end_token_id=4,
        image_token_id=5,
        video_token_id=6,
    )


def build(seed: int = 0) -> tuple[Any, Any]:
    """Build the model (eval mode, float32, CPU) and its processor.

    The weights are drawn from a private generator: the same ``seed`` gives the same model, and torch's global
    state is left alone. Answers consist of printable ASCII characters and mean nothing.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration

    processor = build_processor()
    with torch.random.fork_rng(devices=[]):
        model = Qwen2_5_VLForConditionalGeneration(build_config(len(processor.tokenizer))).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:  # at this scale attention is peaked rather than uniform
                fan_in = weight[0].numel()
                weight.copy_(torch.randn(weight.shape, generator=generator) / fan_in**0.5)
    settings = model.generation_config
    settings.pad_token_id, settings.eos_token_id = 0, 2
    tokens = processor.tokenizer.convert_ids_to_tokens(range(len(processor.tokenizer)))
    settings.no_repeat_ngram_size = 2  # random weights fall into loops at once
    settings.suppress_tokens = [i for i, token in enumerate(tokens) if not (len(token) == 1 and token.isascii())]
    return model, processor
