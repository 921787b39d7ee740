"""pi0 with random weights: a prefix of several cameras and an expert that denoises a chunk of actions."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf

from .configs import seeded
from .parts import Inputs, ground, noise

IMAGE, PATCHES = 16, 16
"""Side of the picture in pixels, patches per camera."""
PLACEHOLDER = 199
CAMERAS, WORDS = (2, 1), (7, 5)
"""Of the rows of a batch."""


def build_pi0(attention: str = "sdpa", layers: int = 6) -> Any:
    """pi0 with a prefix of 6 layers and 4 flow steps over a chunk of 6 actions."""
    heads = dict(num_attention_heads=4, num_key_value_heads=1, head_dim=16, num_hidden_layers=layers)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, patch_size=4)
    config = tf.PI0Config(
        vlm_config=dict(
            model_type="paligemma",
            projection_dim=64,
            image_token_id=PLACEHOLDER,
            text_config=dict(model_type="gemma", vocab_size=200, hidden_size=64, intermediate_size=96, **heads),
            vision_config=dict(model_type="siglip_vision_model", image_size=IMAGE, vision_use_head=False, **vision),
        ),
        dit_config=dict(model_type="gemma", vocab_size=200, hidden_size=32, intermediate_size=64, **heads),
        chunk_size=6,
        max_state_dim=5,
        max_action_dim=5,
        num_inference_steps=4,
    )
    model = seeded(lambda: tf.PI0ForConditionalGeneration._from_config(config, attn_implementation=attention)).eval()
    ground(model)
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        if p.ndim >= 2:
            p.data = torch.randn(p.shape, generator=generator) * p.shape[-1] ** -0.5
    return model


def pi0_inputs(seed: int = 0, cameras: tuple[int, ...] = CAMERAS, words: tuple[int, ...] = WORDS) -> Inputs:
    """One row per entry of ``cameras``; missing cameras are padded slots, shorter prompts are padded on the right."""
    rows, most = len(cameras), max(cameras)
    prompts = []
    for row, (count, length) in enumerate(zip(cameras, words, strict=True)):
        generator = torch.Generator().manual_seed(700 + row)
        prompts.append(
            [PLACEHOLDER] * (PATCHES * count) + torch.randint(1, 190, (length,), generator=generator).tolist()
        )
    width = max(map(len, prompts))
    return dict(
        input_ids=torch.tensor([p + [0] * (width - len(p)) for p in prompts]),
        attention_mask=torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in prompts]),
        pixel_values=noise(rows, most, 3, IMAGE, IMAGE, seed=seed),
        pixel_attention_mask=torch.tensor([[c < count for c in range(most)] for count in cameras]),
        state=noise(rows, 5, seed=seed + 50),
        noise=noise(rows, 6, 5, seed=seed + 90),
    )


def pi0_alone(row: int) -> Inputs:
    """One row of :func:`pi0_inputs`, without its padded cameras and its padded text."""
    one = {k: v[row : row + 1] for k, v in pi0_inputs().items()}
    length = int(one["attention_mask"].sum())
    one |= {k: one[k][:, : CAMERAS[row]] for k in ("pixel_values", "pixel_attention_mask")}
    return one | {k: one[k][:, :length] for k in ("input_ids", "attention_mask")}
