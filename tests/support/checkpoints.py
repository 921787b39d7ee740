"""Tiny random checkpoints with real processors, written to a folder as lmms-eval's classes want to load them."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers as tf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from support import tiny, tiny_families
from support.tiny import BOS, EOS, IMG, PAD, SPECIAL, VE, VID, VS

NAMES = {PAD: "<pad>", BOS: "<s>", EOS: "</s>", 3: "<unk>", VS: "<vs>", VE: "<ve>", IMG: "<image>", VID: "<video>"}
QWEN = NAMES | {VS: "<|vision_start|>", VE: "<|vision_end|>", IMG: "<|image_pad|>", VID: "<|video_pad|>"}
TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}IMAGE{% elif c.type == 'video' %}VIDEO{% elif c.type == 'text' %}{{ c.text }}"
    "{% endif %}{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %} : {% endif %}"
)
SIZE = 24
SQUARE = dict(size={"height": SIZE, "width": SIZE})
CROP = dict(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
PACKED = dict(size={"shortest_edge": 64, "longest_edge": 64 * 64}, patch_size=4, merge_size=2, temporal_patch_size=2)


def tokenizer(names: dict[int, str] = NAMES, **extra: Any) -> Any:
    """One token per character, the special tokens of ``tiny`` at their places."""
    chars = sorted(set(string.printable) - set("\x0b\x0c\r"))
    vocabulary = {names.get(i, f"<r{i}>"): i for i in SPECIAL}
    vocabulary |= {c: len(SPECIAL) + i for i, c in enumerate(chars)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens([names.get(i, f"<r{i}>") for i in SPECIAL])
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
        **extra,
    )


def template(image: str = "<image>", video: str = "<video>") -> str:
    return TEMPLATE.replace("IMAGE", image).replace("VIDEO", video)


def _llava(cls: Any, images: Any, strategy: str = "default", **extra: Any) -> Any:
    return cls(
        image_processor=images,
        tokenizer=tokenizer(),
        patch_size=4,
        vision_feature_select_strategy=strategy,
        chat_template=template(),
        **extra,
    )


def _llava_next() -> Any:
    images = tf.LlavaNextImageProcessor(image_grid_pinpoints=tiny_families.PINPOINTS, **CROP)
    return _llava(tf.LlavaNextProcessor, images, num_additional_image_tokens=1)


def _onevision() -> Any:
    return tf.LlavaOnevisionProcessor(
        image_processor=tf.LlavaOnevisionImageProcessor(image_grid_pinpoints=tiny_families.PINPOINTS, **SQUARE),
        tokenizer=tokenizer(),
        video_processor=tf.LlavaOnevisionVideoProcessor(**SQUARE),
        num_image_tokens=36,
        vision_feature_select_strategy="full",
        chat_template=template(),
    )


def _qwen(cls: str, video: str = "Qwen2VLVideoProcessor") -> Any:
    picture, clip = (f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video"))
    return getattr(tf, cls)(
        image_processor=tf.Qwen2VLImageProcessor(**PACKED),
        tokenizer=tokenizer(QWEN),
        video_processor=getattr(tf, video)(**PACKED),
        chat_template=template(picture, clip),
    )


def _internvl() -> Any:
    extra = dict(start_image_token="<vs>", end_image_token="<ve>", context_image_token="<image>", video_token="<video>")
    return tf.InternVLProcessor(
        image_processor=tf.GotOcr2ImageProcessor(**SQUARE),
        tokenizer=tokenizer(extra_special_tokens=extra),
        video_processor=tf.InternVLVideoProcessor(**SQUARE),
        image_seq_length=9,
        chat_template=template(),
    )


def _gemma3() -> Any:
    extra = dict(boi_token="<vs>", eoi_token="<ve>", image_token="<image>")
    return tf.Gemma3Processor(
        image_processor=tf.Gemma3ImageProcessor(**SQUARE),
        tokenizer=tokenizer(extra_special_tokens=extra),
        image_seq_length=9,
        chat_template=template("<vs>"),
    )


def _plain() -> Any:
    return _llava(tf.LlavaProcessor, tf.CLIPImageProcessor(**CROP), num_additional_image_tokens=1)


# name -> (case, processor, base of lmms-eval)
CHECKPOINTS: dict[str, tuple[str, Callable[[], Any], str]] = {
    "llava": ("llava-clip", _plain, "llava_hf"),
    "llava_next": ("llava_next", _llava_next, "llava_hf"),
    "llava_onevision": ("llava_onevision", _onevision, "llava_hf"),
    "qwen2_vl": ("qwen2_vl", lambda: _qwen("Qwen2VLProcessor"), "qwen2_vl"),
    "qwen2_5_vl": ("qwen2_5_vl", lambda: _qwen("Qwen2_5_VLProcessor"), "qwen2_5_vl"),
    "qwen3_vl": ("qwen3_vl", lambda: _qwen("Qwen3VLProcessor", "Qwen3VLVideoProcessor"), "qwen3_vl"),
    "gemma3": ("gemma3", _gemma3, "gemma3"),
    "internvl": ("internvl", _internvl, "internvl_hf"),
    "vipllava": ("vipllava", _plain, "generic"),
}


def write(name: str, place: Path) -> Path:
    """Write a checkpoint; greedy answers are printable characters."""
    case, processor, _ = CHECKPOINTS[name]
    model = tiny_families.ALL[case].build()
    model.generation_config.suppress_tokens = [*SPECIAL, *range(len(SPECIAL) + 97, tiny.VOCAB)]
    model.save_pretrained(place)
    processor().save_pretrained(place)
    return place
