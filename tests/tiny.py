"""Tiny random models of the supported set-ups and inputs for them; built from configs in code, no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf
from torch import Tensor

PAD, BOS, EOS, VS, VE, IMG, VID = 0, 1, 2, 10, 11, 12, 13
SPECIAL = list(range(20))
VOCAB = 160
TEXT = dict(
    vocab_size=VOCAB,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=2048,
    pad_token_id=PAD,
    bos_token_id=BOS,
    eos_token_id=EOS,
)
VISION = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=4, num_attention_heads=3, patch_size=4, image_size=24
)
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
Part = int | str | tuple


def noise(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lively(model: Any, seed: int = 0) -> Any:
    """Large random weights: attention is peaked and tokens differ, so a wrong mask cannot hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.18)
            elif "bias" in name or "embedding" in name or "cls" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * (0.02 if "bias" in name else 0.5))
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = None
    return model.eval()


def decoder_config(kind: str, **extra: Any) -> Any:
    names = {"llama": tf.LlamaConfig, "mistral": tf.MistralConfig, "qwen2": tf.Qwen2Config, "qwen3": tf.Qwen3Config}
    options = {**TEXT, **extra}
    if kind == "qwen3":
        options.setdefault("head_dim", 8)
    return names[kind](**options)


@dataclass
class Case:
    """A set-up: how to build it, and how to make inputs for prompts given as parts."""

    name: str
    build: Callable[[], Any]
    inputs: Callable[..., dict[str, Tensor]]
    tokens: Callable[[Any], int]
    samples: list[list[Part]] = field(default_factory=list)


def pad_rows(rows: list[list[int]], side: str = "left", value: int = PAD) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        gap = width - len(row)
        ids.append([value] * gap + row if side == "left" else row + [value] * gap)
        mask.append([0] * gap + [1] * len(row) if side == "left" else [1] * len(row) + [0] * gap)
    return torch.tensor(ids), torch.tensor(mask)


def text_ids(count: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(20, VOCAB, (count,), generator=generator).tolist()


def build_llava(vision: str = "clip", text: str = "llama", **extra: Any) -> Any:
    config = dict(image_token_id=IMG, text_config=decoder_config(text, **extra))
    if vision == "clip":
        config["vision_config"] = tf.CLIPVisionConfig(**VISION, projection_dim=16)
    elif vision == "siglip":
        config.update(
            vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    else:
        config.update(
            vision_config=tf.PixtralVisionConfig(**VISION),
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        )
    return lively(tf.LlavaForConditionalGeneration(tf.LlavaConfig(**config)))


def llava_inputs(
    samples: list[list[Part]], seeds: list[int], side: str = "left", pixtral: bool = False
) -> dict[str, Tensor]:
    rows, pixels, sizes = [], [], []
    for sample, seed in zip(samples, seeds, strict=True):
        ids = [BOS]
        for number, part in enumerate(sample):
            if isinstance(part, int):
                ids += text_ids(part, seed * 10 + number)
                continue
            height, width = part[1] if isinstance(part, tuple) else (6, 6)
            ids += [VS] + [IMG] * (height * width) + [VE]
            image = noise(3, 4 * height, 4 * width, seed=100 * seed + number)
            canvas = torch.zeros(3, 24, 24) if pixtral else image
            canvas[:, : 4 * height, : 4 * width] = image
            pixels.append(canvas)
            sizes.append((4 * height, 4 * width))
        rows.append(ids)
    ids, mask = pad_rows(rows, side)
    out = dict(input_ids=ids, attention_mask=mask)
    if pixels:
        out["pixel_values"] = torch.stack(pixels)
        if pixtral:
            out["image_sizes"] = torch.tensor(sizes)
    return out


def build_qwen2_5_vl(**extra: Any) -> Any:
    vision = dict(
        depth=6,
        hidden_size=32,
        intermediate_size=48,
        num_heads=2,
        patch_size=4,
        window_size=32,
        out_hidden_size=32,
        fullatt_block_indexes=[2, 5],
        tokens_per_second=2,
    )
    ids = dict(image_token_id=IMG, video_token_id=VID, vision_start_token_id=VS, vision_end_token_id=VE)
    text = {**TEXT, "rope_parameters": dict(MROPE), **extra}
    return lively(
        tf.Qwen2_5_VLForConditionalGeneration(tf.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids))
    )


def qwen_inputs(samples: list[list[Part]], seeds: list[int], side: str = "left") -> dict[str, Tensor]:
    rows, types = [], []
    pixels: dict[str, list[Tensor]] = {"image": [], "video": []}
    grids: dict[str, list[tuple[int, int, int]]] = {"image": [], "video": []}
    for sample, seed in zip(samples, seeds, strict=True):
        ids, kinds = [BOS], [0]
        for number, part in enumerate(sample):
            if isinstance(part, int):
                ids += text_ids(part, seed * 10 + number)
                kinds += [0] * part
                continue
            modality, (t, h, w) = part
            token, kind = (IMG, 1) if modality == "image" else (VID, 2)
            pixels[modality].append(noise(t * h * w, 3 * 2 * 4 * 4, seed=100 * seed + number))
            grids[modality].append((t, h, w))
            ids += [VS] + [token] * (t * h * w // 4) + [VE]
            kinds += [0] + [kind] * (t * h * w // 4) + [0]
        rows.append(ids)
        types.append(kinds)
    ids, mask = pad_rows(rows, side)
    out = dict(input_ids=ids, attention_mask=mask, mm_token_type_ids=pad_rows(types, side, 0)[0])
    for modality, names in {
        "image": ("pixel_values", "image_grid_thw"),
        "video": ("pixel_values_videos", "video_grid_thw"),
    }.items():
        if pixels[modality]:
            out[names[0]] = torch.cat(pixels[modality])
            out[names[1]] = torch.tensor(grids[modality])
    if grids["video"]:
        out["second_per_grid_ts"] = torch.tensor([1.0] * len(grids["video"]))
    return out


def _llava(name: str, vision: str, text: str = "llama", **extra: Any) -> Case:
    pixtral = vision == "pixtral"
    second: Part = ("image", (4, 5)) if pixtral else "image"
    return Case(
        name,
        lambda: build_llava(vision, text, **extra),
        lambda samples, seeds, side="left": llava_inputs(samples, seeds, side, pixtral),
        lambda part: part[1][0] * part[1][1] if isinstance(part, tuple) else 36,
        [[3, "image", 4], [2, second, 3, "image", 5], [7]],
    )


_IMAGES: list[list[Part]] = [
    [3, ("image", (1, 8, 12)), 4],
    [2, ("image", (1, 4, 8)), 1, ("image", (1, 8, 8)), 5],
    [6],
]
_VIDEOS: list[list[Part]] = [
    [3, ("image", (1, 8, 12)), 4, ("video", (3, 4, 8)), 2],
    [2, ("video", (2, 8, 8)), 5],
    [60],
]


def _qwen_tokens(part: Any) -> int:
    t, h, w = part[1]
    return t * h * w // 4


CASES = {
    case.name: case
    for case in [
        _llava("llava-clip", "clip"),
        _llava("llava-siglip", "siglip", "qwen2"),
        _llava("llava-pixtral", "pixtral", "mistral", sliding_window=None),
        _llava("llava-qwen3", "clip", "qwen3"),
        Case("qwen2_5_vl", build_qwen2_5_vl, qwen_inputs, _qwen_tokens, _IMAGES),
        Case("qwen2_5_vl-video", build_qwen2_5_vl, qwen_inputs, _qwen_tokens, _VIDEOS),
    ]
}
GENERATE = dict(max_new_tokens=6, do_sample=False, suppress_tokens=SPECIAL)


def batch(case: Case, side: str = "left") -> dict[str, Tensor]:
    return case.inputs(case.samples, list(range(len(case.samples))), side)


def alone(case: Case, index: int) -> dict[str, Tensor]:
    return case.inputs([case.samples[index]], [index])
