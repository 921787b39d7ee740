"""Tiny random models of further families, in the form of ``tiny.CASES``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import torch
import transformers as tf
from tiny import (
    BOS,
    CASES,
    IMG,
    MROPE,
    PAD,
    TEXT,
    VE,
    VID,
    VISION,
    VOCAB,
    VS,
    Case,
    decoder_config,
    lively,
    noise,
    pad_rows,
    text_ids,
)
from torch import Tensor
from vtc.adapters import list_adapters

from vtc.compat import parse

BREAK = 14
SIDE = 24
SIGLIP = dict(VISION, vision_use_head=False)
IDS = dict(image_token_id=IMG, video_token_id=VID)
Tensors = dict[str, Tensor]


@dataclass
class Piece:
    """One image or video of a prompt: its token ids and its tensors; ``kind`` is 1 for images, 2 for videos."""

    ids: list[int]
    tensors: Tensors
    kind: int = 1


@dataclass
class Prompts:
    """Builds batches from samples; ``piece(part, seed)`` makes an image, ``finish(batch)`` adds what depends on all."""

    piece: Callable[[Any, int], Piece]
    types: bool = False
    finish: Callable[[dict[str, Tensor]], None] | None = None
    join: Callable[[str, list[list[Tensor]]], Tensor] = field(default=lambda key, rows: torch.cat(sum(rows, [])))

    def __call__(self, samples: list[Any], seeds: list[int], side: str = "left") -> dict[str, Tensor]:
        rows, types, tensors = [], [], []
        for sample, seed in zip(samples, seeds, strict=True):
            ids, kinds, mine = [BOS], [0], []
            for number, part in enumerate(sample):
                if isinstance(part, int):
                    ids += text_ids(part, seed * 10 + number)
                    kinds += [0] * part
                    continue
                piece = self.piece(part, 100 * seed + number)
                ids += piece.ids
                kinds += [piece.kind if i in (IMG, VID) else 0 for i in piece.ids]
                mine.append(piece.tensors)
            rows.append(ids)
            types.append(kinds)
            tensors.append(mine)
        ids, mask = pad_rows(rows, side)
        out = dict(input_ids=ids, attention_mask=mask)
        if self.types:
            out["mm_token_type_ids"] = pad_rows(types, side, 0)[0]
        for key in dict.fromkeys(k for mine in tensors for t in mine for k in t):
            out[key] = self.join(key, [[t[key] for t in mine if key in t] for mine in tensors])
        if self.finish is not None:
            self.finish(out)
        return out


def framed(n: int, token: int = IMG) -> list[int]:
    return [VS] + [token] * n + [VE]


# older releases name the images of Video-LLaVA otherwise
LLAVA_IMAGES = next(k for k in signature(tf.VideoLlavaModel.get_image_features).parameters if k.startswith("pixel"))


def square(n: int, part: Any, seed: int, key: str = "pixel_values") -> Piece:
    return Piece(framed(n), {key: noise(1, 3, SIDE, SIDE, seed=seed)})


def video(n: int, part: Any, seed: int) -> Piece:
    frames = part[1]
    pixels = {"pixel_values_videos": noise(1, frames, 3, SIDE, SIDE, seed=seed)}
    return Piece(framed(video_rows(n, frames), VID), pixels, 2)


def video_rows(n: int, frames: int) -> int:
    return n * frames if n > 0 else -n * frames + 1


PINPOINTS = [[24, 48], [48, 24], [48, 48], [24, 72]]


def anyres_rows(size: tuple[int, int], most: int | None = None) -> tuple[int, int]:
    """Rows of features and tiles of an image of ``size``: the arithmetic of unpadding, written down independently."""
    height, width = size

    def fit(best: list[int]) -> tuple[float, float]:
        scale = min(best[1] / width, best[0] / height)
        used = min(int(width * scale) * int(height * scale), height * width)
        return used, -(best[0] * best[1] - used)

    best = max(PINPOINTS, key=fit)
    rows, cols = best[0] // 4, best[1] // 4
    tiles = (best[0] // SIDE) * (best[1] // SIDE)
    if width / height > cols / rows:
        rows -= 2 * ((rows - int(round(height * cols / width, 7))) // 2)
    else:
        cols -= 2 * ((cols - int(round(width * rows / height, 7))) // 2)
    if most is not None and (ratio := math.sqrt(rows * cols / (most * 36))) > 1.1:
        rows, cols = int(rows // ratio), int(cols // ratio)
    return 36 + rows * (cols + 1), tiles + 1


def anyres(most: int | None, per_frame: int, part: Any, seed: int) -> Piece:
    if part[0] == "video":
        return video(per_frame, part, seed)
    n, crops = anyres_rows(part[1], most)
    pixels = torch.zeros(1, 5, 3, SIDE, SIDE)
    pixels[:, :crops] = noise(1, crops, 3, SIDE, SIDE, seed=seed)
    return Piece(framed(n), {"pixel_values": pixels, "image_sizes": torch.tensor([part[1]])})


def packed(channels: int, part: Any, seed: int, frames: bool = False, sizes: bool = False, token: int = VID) -> Piece:
    """Patches of ``part = (modality, (t, h, w))`` and their grid, as Qwen's processors make them."""
    modality, (t, h, w) = part
    video, n = modality == "video", h * w // 4
    ids = framed(n * t, token if video else IMG)
    if video and frames:
        ids = [i for f in range(t) for i in [30 + f, 31 + f, *framed(n, token)]]
    pixels = "pixel_values_videos" if video else "pixel_values"
    tensors = {pixels: noise(t * h * w, channels, seed=seed), f"{modality}_grid_thw": torch.tensor([[t, h, w]])}
    if sizes:
        tensors[f"{modality}_merge_sizes"] = torch.tensor([2])
    return Piece(ids, tensors, 2 if video else 1)


def placed(part: Any, seed: int) -> Piece:
    """Gemma 4: patches with (x, y) positions, padded to 96; the frames of a video between time stamps."""
    modality, (t, h, w) = part
    places = torch.full((t, 96, 2), -1)
    places[:, : h * w, 0] = torch.arange(w).repeat(h)
    places[:, : h * w, 1] = torch.arange(h).repeat_interleave(w)
    pixels = torch.zeros(t, 96, 48)
    pixels[:, : h * w] = noise(t, h * w, 48, seed=seed)
    tensors = {f"{modality}_position_ids": places}
    if modality == "image":
        return Piece(framed(h * w // 4), {"pixel_values": pixels, **tensors})
    tensors |= {"pixel_values_videos": pixels, "num_frames_per_video": torch.tensor([t])}
    return Piece([i for f in range(t) for i in [30 + f, *framed(h * w // 4, VID)]], tensors, 2)


def rows_of_breaks(part: Any, seed: int) -> Piece:
    """Mistral 3: a break token after every row, an end token after the image."""
    h, w = part[1]
    ids = [i for _ in range(h // 2) for i in [IMG] * (w // 2) + [BREAK]]
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    pixels[..., : 4 * h, : 4 * w] = noise(3, 4 * h, 4 * w, seed=seed)
    return Piece(ids[:-1] + [VE], {"pixel_values": pixels, "image_sizes": torch.tensor([[4 * h, 4 * w]])})


def crops_per_sample(key: str, rows: list[list[Tensor]]) -> Tensor:
    """Idefics: ``[samples, crops, ...]`` with black padding crops."""
    most = max(map(len, rows))
    blank = torch.zeros_like(next(t for row in rows for t in row))
    return torch.stack([torch.cat(row + [blank] * (most - len(row))) for row in rows])


def image_types(out: dict[str, Tensor]) -> None:
    out["token_type_ids"] = (out["input_ids"] == IMG).long()


def prefix_types(out: dict[str, Tensor]) -> None:
    out["token_type_ids"] = torch.zeros_like(out["input_ids"])


def build(model: str, config: str, vision: Any, text: Any, **options: Any) -> Any:
    """Model class from config class, vision and text configs and further options of the config."""
    made = getattr(tf, config)(vision_config=vision() if callable(vision) else vision, text_config=text(), **options)
    return lively(getattr(tf, model)(made))


def clip() -> Any:
    return tf.CLIPVisionConfig(**VISION, projection_dim=16)


def siglip(**extra: Any) -> Any:
    return tf.SiglipVisionConfig(**SIGLIP, **extra)


def pixtral() -> Any:
    return tf.PixtralVisionConfig(**VISION)


def internvit() -> Any:
    options = dict(VISION, patch_size=[4, 4], image_size=[SIDE, SIDE])
    return tf.InternVLVisionConfig(**options)


def gemma_text(kind: str, **extra: Any) -> Any:
    names = {"gemma": tf.GemmaConfig, "gemma2": tf.Gemma2Config, "gemma3": tf.Gemma3TextConfig}
    return names[kind](**{**TEXT, "head_dim": 8, **extra})


def gemma4_text(small: bool) -> Any:
    kinds = ["sliding_attention", "full_attention"] * 2
    options = dict(TEXT, head_dim=8, sliding_window=40, layer_types=kinds, vocab_size_per_layer_input=VOCAB)
    if small:
        return tf.Gemma4TextConfig(**options, hidden_size_per_layer_input=8, num_kv_shared_layers=2)
    return tf.Gemma4TextConfig(**options, hidden_size_per_layer_input=0, use_bidirectional_attention="vision")


def cohere_text() -> Any:
    kinds = ["sliding_attention", "full_attention"] * 2
    return tf.Cohere2Config(**TEXT, sliding_window=64, layer_types=kinds, logit_scale=1.0)


def rope_text(**extra: Any) -> Callable[[], dict]:
    return lambda: {**TEXT, "rope_parameters": {**MROPE, **extra.pop("rope", {})}, **extra}


def grid_vision(**extra: Any) -> dict:
    return dict(depth=4, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=4, out_hidden_size=32, **extra)


MARKS = dict(IDS, vision_start_token_id=VS, vision_end_token_id=VE)
DEEP = grid_vision(num_position_embeddings=64, deepstack_visual_indexes=[0, 1, 2])
MOE = dict(moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2)
LINEAR = dict(
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    layer_types=["linear_attention", "full_attention"] * 2,
)
GLM_MARKS = dict(IDS, image_start_token_id=VS, image_end_token_id=VE, video_start_token_id=15, video_end_token_id=16)
GEMMA4_MARKS = dict(
    IDS, audio_token_id=17, boi_token_id=VS, eoi_token_id=VE, boa_token_id=18, eoa_token_index=19, audio_config=None
)
GEMMA4_VISION = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=4, num_attention_heads=3, num_key_value_heads=3, head_dim=8,
    patch_size=4, pooling_kernel_size=2, position_embedding_size=64,
)  # fmt: skip
ANYRES = dict(IDS, image_grid_pinpoints=PINPOINTS)
POOLED = dict(ANYRES, spatial_pool_mode="average", spatial_pool_stride=2)
FULL = dict(vision_feature_layer=-1, vision_feature_select_strategy="full")
SPATIAL = dict(rope={"partial_rotary_factor": 1.0})

PLAIN: list[list[Any]] = [[3, "image", 4], [2, "image", 3, "image", 5], [7]]
TILED: list[list[Any]] = [[3, ("image", (40, 48)), 4], [2, ("image", (20, 48)), 1, ("image", (30, 30)), 5], [6]]
GRIDS: list[list[Any]] = [[3, ("image", (1, 8, 12)), 4], [2, ("image", (1, 4, 8)), 1, ("image", (1, 8, 8)), 5], [6]]
MIXED: list[list[Any]] = [
    [3, ("image", (1, 8, 12)), 4, ("video", (3, 4, 8)), 2],
    [2, ("video", (2, 8, 8)), 5],
    [60],
]
CLIPS: list[list[Any]] = [[3, ("video", 2), 4], [2, ("video", 2), 3, ("video", 2), 1], [7]]
SIZED: list[list[Any]] = [[3, ("image", (6, 6)), 4], [2, ("image", (4, 6)), 3, ("image", (6, 4)), 5], [7]]
VIDEOS: list[list[Any]] = [[3, ("video", (3, 4, 8)), 2], [2, ("video", (2, 8, 8)), 5], [60]]


def case(name: str, samples: list[list[Any]], prompts: Prompts, *args: Any, **options: Any) -> Case:
    def tokens(part: Any) -> int:
        return sum(i in (IMG, VID) for i in prompts.piece(part, 0).ids)

    return Case(name, partial(build, *args, **options), prompts, tokens, samples)


def _cases() -> list[Case]:
    llama, qwen2 = partial(decoder_config, "llama"), partial(decoder_config, "qwen2")
    mistral = partial(decoder_config, "mistral", sliding_window=None)
    nine, whole = partial(square, 9), partial(square, 36)
    next_ = ("LlavaNextForConditionalGeneration", "LlavaNextConfig", clip, mistral)
    one = ("LlavaOnevisionForConditionalGeneration", "LlavaOnevisionConfig", siglip, qwen2)
    next_video = ("LlavaNextVideoForConditionalGeneration", "LlavaNextVideoConfig", clip, llama)
    video_llava = ("VideoLlavaForConditionalGeneration", "VideoLlavaConfig", clip, llama)
    stamped = Prompts(partial(packed, 96, frames=True), types=True)
    qwen3 = rope_text(head_dim=8)
    hybrid = rope_text(head_dim=8, **SPATIAL, **LINEAR)
    vl3 = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2, patch_size=4)
    windows = partial(gemma_text, "gemma3", sliding_window=40, layer_types=["sliding_attention", "full_attention"] * 2)
    pali = ("PaliGemmaForConditionalGeneration", "PaliGemmaConfig", partial(siglip, projection_dim=32))
    prefix = Prompts(whole, finish=prefix_types)
    crops = Prompts(lambda part, seed: square(9, part, seed), join=crops_per_sample)
    glm = ("Glm4vForConditionalGeneration", "Glm4vConfig", grid_vision(image_size=32), rope_text(**SPATIAL))
    glm_prompts = Prompts(partial(packed, 96, frames=True, token=IMG), types=True)
    vl3_prompts = Prompts(partial(packed, 48, sizes=True))
    vl3_text = lambda: {**TEXT, "model_type": "qwen2"}  # noqa: E731
    vl3_model = ("VideoLlama3ForConditionalGeneration", "VideoLlama3Config", vl3, vl3_text)
    gemma4 = ("Gemma4ForConditionalGeneration", "Gemma4Config", GEMMA4_VISION)
    return [
        case("gemma4", MIXED, Prompts(placed, types=True), *gemma4, partial(gemma4_text, True), **GEMMA4_MARKS),
        case("gemma4-large", MIXED, Prompts(placed, types=True), *gemma4, partial(gemma4_text, False), **GEMMA4_MARKS),
        case("llava_next", TILED, Prompts(partial(anyres, None, 0)), *next_, **ANYRES),
        case("llava_onevision", TILED, Prompts(partial(anyres, 9, -9)), *one, **ANYRES, **FULL),
        case(
            "llava_onevision-shrunk",
            TILED,
            Prompts(partial(anyres, 2, -9)),
            *one,
            **ANYRES,
            **FULL,
            vision_aspect_ratio="anyres_max_2",
        ),
        case("llava_onevision-video", CLIPS, Prompts(partial(anyres, 9, -9)), *one, **ANYRES, **FULL),
        case("llava_next_video", TILED, Prompts(partial(anyres, None, 9)), *next_video, **POOLED),
        case("llava_next_video-video", CLIPS, Prompts(partial(anyres, None, 9)), *next_video, **POOLED),
        case(
            "vipllava",
            PLAIN,
            Prompts(whole),
            "VipLlavaForConditionalGeneration",
            "VipLlavaConfig",
            clip,
            llama,
            image_token_id=IMG,
            vision_feature_layer=[-1, -2],
            vision_feature_layers=[-1, -2],
        ),
        case("video_llava", PLAIN, Prompts(partial(square, 36, key=LLAVA_IMAGES)), *video_llava, **IDS),
        case("video_llava-video", CLIPS, Prompts(partial(video, 37)), *video_llava, **IDS),
        case(
            "qwen2_vl",
            MIXED,
            Prompts(partial(packed, 96), types=True),
            "Qwen2VLForConditionalGeneration",
            "Qwen2VLConfig",
            dict(depth=4, embed_dim=32, hidden_size=32, num_heads=2, patch_size=4, mlp_ratio=2),
            rope_text(),
            **MARKS,
        ),
        case("qwen3_vl", MIXED, stamped, "Qwen3VLForConditionalGeneration", "Qwen3VLConfig", DEEP, qwen3, **MARKS),
        case(
            "qwen3_vl_moe",
            GRIDS,
            stamped,
            "Qwen3VLMoeForConditionalGeneration",
            "Qwen3VLMoeConfig",
            DEEP,
            rope_text(head_dim=8, **MOE),
            **MARKS,
        ),
        case(
            "qwen3_5",
            GRIDS,
            stamped,
            "Qwen3_5ForConditionalGeneration",
            "Qwen3_5Config",
            grid_vision(num_position_embeddings=64),
            hybrid,
            **MARKS,
        ),
        case("glm4v", GRIDS, glm_prompts, *glm, **GLM_MARKS),
        case("glm4v-video", VIDEOS, glm_prompts, *glm, **GLM_MARKS),
        case("video_llama_3", MIXED, vl3_prompts, *vl3_model, **IDS),
        case(
            "internvl",
            PLAIN,
            Prompts(nine),
            "InternVLForConditionalGeneration",
            "InternVLConfig",
            internvit,
            qwen2,
            image_token_id=IMG,
        ),
        case(
            "gemma3",
            PLAIN,
            Prompts(nine, finish=image_types),
            "Gemma3ForConditionalGeneration",
            "Gemma3Config",
            siglip,
            windows,
            image_token_id=IMG,
            mm_tokens_per_image=9,
        ),
        case("paligemma", PLAIN, prefix, *pali, partial(gemma_text, "gemma"), image_token_id=IMG, projection_dim=32),
        case(
            "paligemma2",
            PLAIN,
            prefix,
            *pali,
            partial(gemma_text, "gemma2", sliding_window=40),
            image_token_id=IMG,
            projection_dim=32,
        ),
        case(
            "mistral3",
            SIZED,
            Prompts(rows_of_breaks),
            "Mistral3ForConditionalGeneration",
            "Mistral3Config",
            pixtral,
            mistral,
            image_token_id=IMG,
            spatial_merge_size=2,
        ),
        case(
            "idefics3",
            PLAIN,
            crops,
            "Idefics3ForConditionalGeneration",
            "Idefics3Config",
            dict(VISION),
            llama,
            image_token_id=IMG,
            scale_factor=2,
            pad_token_id=PAD,
        ),
        case(
            "smolvlm",
            PLAIN,
            crops,
            "SmolVLMForConditionalGeneration",
            "SmolVLMConfig",
            dict(VISION),
            llama,
            image_token_id=IMG,
            scale_factor=2,
            pad_token_id=PAD,
        ),
        case(
            "aya_vision",
            PLAIN,
            Prompts(nine),
            "AyaVisionForConditionalGeneration",
            "AyaVisionConfig",
            siglip,
            cohere_text,
            image_token_id=IMG,
            downsample_factor=2,
            **FULL,
        ),
        case(
            "cohere2_vision",
            PLAIN,
            Prompts(nine),
            "Cohere2VisionForConditionalGeneration",
            "Cohere2VisionConfig",
            siglip,
            cohere_text,
            image_token_id=IMG,
            downsample_factor=2,
        ),
    ]


RELEASE = parse(tf.__version__)
OLD = {a.family for a in list_adapters() if a.since and RELEASE < parse(a.since)}
"""Families that need a newer transformers than the one installed."""
POLICIES = {"pi0"}
"""Families that give actions, not text: tiny ones are in ``policies``, their matrix in ``matrix/test_policies``."""
FAMILIES = {c.name: c for c in _cases() if c.name.split("-")[0] not in OLD}
ALL = {**CASES, **FAMILIES}
