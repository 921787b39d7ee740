"""The table of set-ups: at least one per family of :func:`vtc.list_families` that answers in text."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

from vtc.adapters import list_adapters

from ...compat import check_transformers, parse
from .configs import (
    ANYRES,
    DEEP,
    FULL,
    GEMMA4_MARKS,
    GEMMA4_VISION,
    GLM_MARKS,
    HYBRID,
    IDS,
    LINEAR,
    MARKS,
    MOE,
    POOLED,
    QWEN2_5_VISION,
    SPATIAL,
    VL3_VISION,
    build,
    clip,
    cohere_text,
    gemma4_text,
    gemma_text,
    grid_vision,
    internvit,
    pixtral,
    rope_text,
    siglip,
    vl3_text,
)
from .parts import IMG, PAD, VID, VISION, Case, Sample, decoder_config
from .pieces import (
    Prompts,
    anyres,
    crops_per_sample,
    image_types,
    on_canvas,
    packed,
    placed,
    prefix_types,
    rows_of_breaks,
    square,
    video,
    video_llava_image,
    video_seconds,
)

PLAIN: list[Sample] = [[3, "image", 4], [2, "image", 3, "image", 5], [7]]
SIZES: list[Sample] = [[3, "image", 4], [2, ("image", (4, 5)), 3, "image", 5], [7]]
SIZED: list[Sample] = [[3, ("image", (6, 6)), 4], [2, ("image", (4, 6)), 3, ("image", (6, 4)), 5], [7]]
TILED: list[Sample] = [[3, ("image", (40, 48)), 4], [2, ("image", (20, 48)), 1, ("image", (30, 30)), 5], [6]]
GRIDS: list[Sample] = [[3, ("image", (1, 8, 12)), 4], [2, ("image", (1, 4, 8)), 1, ("image", (1, 8, 8)), 5], [6]]
MIXED: list[Sample] = [
    [3, ("image", (1, 8, 12)), 4, ("video", (3, 4, 8)), 2],
    [2, ("video", (2, 8, 8)), 5],
    [60],
]
VIDEOS: list[Sample] = [[3, ("video", (3, 4, 8)), 2], [2, ("video", (2, 8, 8)), 5], [60]]
CLIPS: list[Sample] = [[3, ("video", 2), 4], [2, ("video", 2), 3, ("video", 2), 1], [7]]

llama, qwen2, qwen3 = (partial(decoder_config, kind) for kind in ("llama", "qwen2", "qwen3"))
mistral = partial(decoder_config, "mistral", sliding_window=None)
nine, whole = partial(square, 9), partial(square, 36)


def case(name: str, samples: list[Sample], prompts: Prompts, cls: str, *args: Any, **options: Any) -> Case:
    """Set-up of ``cls``ForConditionalGeneration with ``cls``Config; the arguments are those of ``configs.build``."""

    def tokens(part: Any) -> int:
        return sum(i in (IMG, VID) for i in prompts.piece(part, 0).ids)

    family = _FAMILY.get(name, name.split("-")[0])
    made = partial(build, f"{cls}ForConditionalGeneration", f"{cls}Config", *args, **options)
    return Case(name, family, made, prompts, tokens, samples)


_FAMILY = {"smolvlm": "idefics3", "paligemma2": "paligemma"}


def _llava() -> list[Case]:
    whole_, sized = Prompts(whole), Prompts(on_canvas)
    one = dict(image_token_id=IMG)
    return [
        case("llava-clip", PLAIN, whole_, "Llava", clip, llama, **one),
        case("llava-siglip", PLAIN, whole_, "Llava", siglip, qwen2, **one, **FULL),
        case("llava-pixtral", SIZES, sized, "Llava", pixtral, mistral, **one, **FULL),
        case("llava-qwen3", PLAIN, whole_, "Llava", clip, qwen3, **one),
    ]


def _qwen2_5() -> list[Case]:
    model: tuple[Any, ...] = ("Qwen2_5_VL", QWEN2_5_VISION, rope_text())
    prompts = Prompts(partial(packed, 96), types=True, finish=video_seconds)
    return [
        case("qwen2_5_vl", GRIDS, prompts, *model, **MARKS),
        case("qwen2_5_vl-video", MIXED, prompts, *model, **MARKS),
    ]


def _gemma4() -> list[Case]:
    prompts = Prompts(placed, types=True)
    small, large = (partial(gemma4_text, small) for small in (True, False))
    return [
        case("gemma4", MIXED, prompts, "Gemma4", GEMMA4_VISION, small, **GEMMA4_MARKS),
        case("gemma4-large", MIXED, prompts, "Gemma4", GEMMA4_VISION, large, **GEMMA4_MARKS),
    ]


def _tiled() -> list[Case]:
    one, few = Prompts(partial(anyres, 9, -9)), Prompts(partial(anyres, 2, -9))
    frames = Prompts(partial(anyres, None, 9))
    onevision = dict(ANYRES, **FULL)
    shrunk = dict(onevision, vision_aspect_ratio="anyres_max_2")
    return [
        case("llava_next", TILED, Prompts(partial(anyres, None, 0)), "LlavaNext", clip, mistral, **ANYRES),
        case("llava_onevision", TILED, one, "LlavaOnevision", siglip, qwen2, **onevision),
        case("llava_onevision-shrunk", TILED, few, "LlavaOnevision", siglip, qwen2, **shrunk),
        case("llava_onevision-video", CLIPS, one, "LlavaOnevision", siglip, qwen2, **onevision),
        case("llava_next_video", TILED, frames, "LlavaNextVideo", clip, llama, **POOLED),
        case("llava_next_video-video", CLIPS, frames, "LlavaNextVideo", clip, llama, **POOLED),
    ]


def _other_llava() -> list[Case]:
    layers = dict(vision_feature_layer=[-1, -2], vision_feature_layers=[-1, -2])
    return [
        case("vipllava", PLAIN, Prompts(whole), "VipLlava", clip, llama, image_token_id=IMG, **layers),
        case("video_llava", PLAIN, Prompts(video_llava_image), "VideoLlava", clip, llama, **IDS),
        case("video_llava-video", CLIPS, Prompts(partial(video, 37)), "VideoLlava", clip, llama, **IDS),
    ]


def _grids() -> list[Case]:
    plain = Prompts(partial(packed, 96), types=True)
    stamped = Prompts(partial(packed, 96, frames=True), types=True)
    one_id = Prompts(partial(packed, 96, frames=True, token=IMG), types=True)
    vision2 = dict(depth=4, embed_dim=32, hidden_size=32, num_heads=2, patch_size=4, mlp_ratio=2)
    moe, hybrid = rope_text(head_dim=8, **MOE), rope_text(head_dim=8, **SPATIAL, **LINEAR)
    linear: tuple[Any, ...] = ("Qwen3_5", grid_vision(num_position_embeddings=64), hybrid)
    glm: tuple[Any, ...] = ("Glm4v", grid_vision(image_size=32), rope_text(**SPATIAL))
    sizes = Prompts(partial(packed, 48, sizes=True))
    return [
        case("qwen2_vl", MIXED, plain, "Qwen2VL", vision2, rope_text(), **MARKS),
        case("qwen3_vl", MIXED, stamped, "Qwen3VL", DEEP, rope_text(head_dim=8), **MARKS),
        case("qwen3_vl_moe", GRIDS, stamped, "Qwen3VLMoe", DEEP, moe, **MARKS),
        case("qwen3_5", GRIDS, stamped, *linear, **MARKS),
        case("glm4v", GRIDS, one_id, *glm, **GLM_MARKS),
        case("glm4v-video", VIDEOS, one_id, *glm, **GLM_MARKS),
        case("video_llama_3", MIXED, sizes, "VideoLlama3", VL3_VISION, vl3_text, **IDS),
    ]


def _others() -> list[Case]:
    one = dict(image_token_id=IMG)
    windows = partial(gemma_text, "gemma3", sliding_window=40, layer_types=HYBRID)
    gemma2 = partial(gemma_text, "gemma2", sliding_window=40)
    tower, wide = partial(siglip, projection_dim=32), dict(one, projection_dim=32)
    typed, prefix = Prompts(nine, finish=image_types), Prompts(whole, finish=prefix_types)
    crops = Prompts(nine, join=crops_per_sample)
    idefics: tuple[Any, ...] = (dict(VISION), llama)
    # before 5.21 its merger takes the patch size for the number of tokens of an image: one must divide the other
    fine: tuple[Any, ...] = (dict(VISION, patch_size=2), llama)
    scaled = dict(one, scale_factor=2, pad_token_id=PAD)
    half = dict(one, downsample_factor=2)
    return [
        case("internvl", PLAIN, Prompts(nine), "InternVL", internvit, qwen2, **one),
        case("gemma3", PLAIN, typed, "Gemma3", siglip, windows, **one, mm_tokens_per_image=9),
        case("paligemma", PLAIN, prefix, "PaliGemma", tower, partial(gemma_text, "gemma"), **wide),
        case("paligemma2", PLAIN, prefix, "PaliGemma", tower, gemma2, **wide),
        case("mistral3", SIZED, Prompts(rows_of_breaks), "Mistral3", pixtral, mistral, **one, spatial_merge_size=2),
        case("idefics3", PLAIN, crops, "Idefics3", *idefics, **scaled),
        case("smolvlm", PLAIN, Prompts(whole, join=crops_per_sample), "SmolVLM", *fine, **scaled),
        case("aya_vision", PLAIN, Prompts(nine), "AyaVision", siglip, cohere_text, **half, **FULL),
        case("cohere2_vision", PLAIN, Prompts(nine), "Cohere2Vision", siglip, cohere_text, **half),
    ]


def too_old() -> dict[str, str]:
    """Families that need a newer transformers than the installed one, and which."""
    found = parse(check_transformers())
    return {a.family: a.since for a in list_adapters() if a.since and found < parse(a.since)}


@functools.cache
def all_cases() -> dict[str, Case]:
    """Set-ups the installed transformers can build, by name."""
    groups = (_llava(), _qwen2_5(), _gemma4(), _tiled(), _other_llava(), _grids(), _others())
    missing = too_old()
    return {c.name: c for group in groups for c in group if c.family not in missing}


def cases_of(family: str) -> list[Case]:
    """Set-ups of one family; empty for one that vtc has no tiny model of."""
    return [c for c in all_cases().values() if c.family == family]
