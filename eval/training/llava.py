"""tiny-llava: its configuration, and the forward pass that trains it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from .decoder import attend, decode_slots
from .places import TENTHS
from .targets import HEADS, PRESENT
from .vocabulary import LLAVA

SIDE = 168
"""Side of the squeezed picture in pixels."""
GRID = 12
"""Image tokens per side."""
SLOT = 14
"""Tokens of one question with its answer, padded."""
MOVED = 0.35
"""Share of the training steps with positions as after a cut that renumbers."""
IMAGE, BOS = LLAVA.tokens["<image>"], LLAVA.tokens["<s>"]


def build_config() -> Any:
    """CLIP tower of five layers (features before the last one), Llama decoder of six: 3.8 million parameters."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=SIDE // GRID,
        projection_dim=128,
    )
    text = LlamaConfig(
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        vocab_size=len(LLAVA.tokens),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        max_position_embeddings=1024,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE,
        vision_feature_layer=-2,
        image_seq_length=GRID * GRID,
    )


def clip_layer(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    """One encoder layer of a CLIP tower on [B, N, D], from its weights, with plain matrix products."""
    attention = layer.self_attn
    normed = layer.layer_norm1(hidden)
    q, k, v = (
        p(normed).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for p in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    hidden = hidden + attention.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))
    return hidden + layer.mlp.fc2(layer.mlp.activation_fn(layer.mlp.fc1(layer.layer_norm2(hidden))))


class LlavaTrainee(nn.Module):
    """The model with its auxiliary heads, which are not exported.

    Parameters
    ----------
    model : LlavaForConditionalGeneration
    slots : int
        Questions per picture.
    """

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, model: Any, slots: int) -> None:
        super().__init__()
        self.model = model
        self.slots = slots
        vision = model.config.vision_config.hidden_size
        self.dense = nn.Linear(model.config.text_config.hidden_size, sum(n for _, n in HEADS))
        self.present = nn.ModuleList(nn.Linear(vision, PRESENT) for _ in range(2))
        self.places = nn.Linear(model.config.text_config.hidden_size, 2 * TENTHS)
        # in float32, before anybody turns the module into bfloat16
        every = torch.arange(1 + GRID * GRID + SLOT)
        tables = model.model.language_model.rotary_emb(torch.zeros(1), every[None])
        half = tables[0].shape[-1] // 2
        self.tables = [table[0, :, :half].contiguous() for table in tables]
        for name, table in zip(("cos", "sin"), self.tables, strict=True):
            self.register_buffer(name, table[self._positions(torch.arange(GRID * GRID), GRID * GRID)], persistent=False)

    def _positions(self, image: torch.Tensor, count: int) -> torch.Tensor:
        """Positions of all tokens: image tokens at ``image`` [N] behind the first token, text behind ``count``."""
        text = (1 + count + torch.arange(SLOT)).repeat(self.slots)
        return torch.cat([torch.zeros(1, dtype=torch.long), 1 + image, text])

    @torch.no_grad()
    def vary(self, rng: np.random.Generator | None) -> None:
        """Choose positions for the next pass: the usual ones, or sometimes those after a cut that renumbers.

        Methods that renumber what they keep move image tokens and question closer together. A model that has only
        seen one distance is lost then, which published models are not.

        Parameters
        ----------
        rng : numpy.random.Generator or None
            None for the usual positions.
        """
        total = GRID * GRID
        keep = np.ones(total, dtype=np.int64)
        if rng is not None and rng.random() < MOVED:
            kept = int(np.exp(rng.uniform(np.log(6), np.log(total))))
            keep[rng.permutation(total)[kept:]] = 0
        image = torch.from_numpy(keep.cumsum() - keep)
        positions = self._positions(image, int(keep.sum()))
        self.cos.copy_(self.tables[0][positions])
        self.sin.copy_(self.tables[1][positions])

    def see(self, pixels: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features [B, N, D] of pixels [B, 3, S, S], and the two [CLS] rows: where features are taken, and last."""
        tower = self.model.model.vision_tower
        hidden = tower.pre_layrnorm(tower.embeddings(pixels))
        layers = tower.encoder.layers
        for layer in layers[:-1]:
            hidden = clip_layer(layer, hidden)
        last = clip_layer(layers[-1], hidden)
        classes = [hidden[:, 0], tower.post_layernorm(last[:, 0])]
        return self.model.model.multi_modal_projector(hidden[:, 1:]), classes

    def look(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Features [B, N, D], dense logits [B, N, C], and the two [CLS] logits [B, PRESENT]."""
        features, classes = self.see(pixels)
        present = [head(row) for head, row in zip(self.present, classes, strict=True)]
        return features, self.dense(features), present

    def forward(
        self, pixels: torch.Tensor, slots: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Logits [B, Q * SLOT, V] of the question slots, dense logits [B, N, C], [CLS] logits, places [B, N, 20].

        Parameters
        ----------
        pixels : Tensor [B, 3, S, S]
        slots : LongTensor [B, Q * SLOT]
            Questions with answers.
        """
        features, dense, present = self.look(pixels)
        embed = self.model.get_input_embeddings()
        start = embed.weight[BOS].expand(len(pixels), 1, -1)
        inputs = torch.cat([start, features, embed(slots)], dim=1)
        decoder = self.model.model.language_model
        prefix = inputs.shape[1] - slots.shape[1]
        hidden, middle = decode_slots(decoder, inputs, prefix, self.slots, self.cos, self.sin)
        return self.model.lm_head(hidden), dense, present, self.places(middle[:, 1:])


def prepare_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels uint8 [B, S, S, 3] as the processor hands them on: [B, 3, S, S] in [-1, 1]."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
