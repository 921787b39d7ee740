"""tiny-qwen2_5-vl: its configuration, and the forward pass that trains it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vtc.eval.scenes import SIZES

from .decoder import attend, decode_slots, rms_norm, rotate
from .qwen_pool import CELL, SLOT, WINDOW
from .targets import HEADS
from .vocabulary import QWEN

PREFIX = ("<|im_start|>", "user", "<|vision_start|>")
CANVAS = 2 * WINDOW
TOKENS = CANVAS * CANVAS
KINDS: tuple[tuple[int, int], ...] = ((0, 0), *sorted((height // CELL, width // CELL) for width, height in SIZES))
"""Rows and columns of tokens of what lies on a canvas; (0, 0) is a video."""
HIDDEN = -1e9


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


def kind_index(kind: torch.Tensor) -> torch.Tensor:
    """Index into :data:`KINDS` of rows and columns [B, 2]."""
    table = torch.tensor(KINDS, device=kind.device)
    return (kind[:, None] == table).all(-1).int().argmax(-1)


def _canvas_places() -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column on the canvas of the tokens in window order: [100] each."""
    window, inside = torch.arange(4).repeat_interleave(WINDOW * WINDOW), torch.arange(WINDOW * WINDOW).repeat(4)
    row = window // 2 * WINDOW + inside // WINDOW
    return row, window % 2 * WINDOW + inside % WINDOW


def text_positions(kind: tuple[int, int], slots: int) -> torch.Tensor:
    """M-RoPE positions of prefix, canvas tokens in reading order, end mark and slots: [3, L]."""
    start = len(PREFIX)
    place = torch.arange(TOKENS)
    if kind == (0, 0):
        inside, extent = place % (WINDOW * WINDOW), WINDOW
        vision = torch.stack([place // (WINDOW * WINDOW), inside // WINDOW, inside % WINDOW])
    else:
        extent = max(kind)
        vision = torch.stack([torch.zeros_like(place), place // CANVAS, place % CANVAS])
    head, end = torch.arange(start), start + extent
    tail = torch.cat([torch.tensor([end]), (end + 1 + torch.arange(SLOT)).repeat(slots)])
    return torch.cat([head.expand(3, -1), start + vision, tail.expand(3, -1)], dim=1)


def visible_tokens(kind: tuple[int, int]) -> torch.Tensor:
    """Which canvas tokens, in reading order, belong to the picture: bool [100]."""
    place = torch.arange(TOKENS)
    if kind == (0, 0):
        return torch.ones(TOKENS, dtype=torch.bool)
    return (place // CANVAS < kind[0]) & (place % CANVAS < kind[1])


class QwenTrainee(nn.Module):
    """The model with its auxiliary head, which is not exported.

    Parameters
    ----------
    model : Qwen2_5_VLForConditionalGeneration
    slots : int
        Questions per picture.
    """

    def __init__(self, model: Any, slots: int) -> None:
        super().__init__()
        self.model, self.slots = model, slots
        self.dense = nn.Linear(model.config.text_config.hidden_size, sum(n for _, n in HEADS))
        row, column = _canvas_places()
        reading = (row * CANVAS + column).argsort()  # window order -> reading order
        visible = torch.stack([visible_tokens(kind) for kind in KINDS])
        self._keep("reading", reading)
        self._keep("window_bias", torch.where(visible[:, row * CANVAS + column], 0.0, HIDDEN).repeat_interleave(4, 1))
        self.window_bias[0] = 0.0
        edge = torch.zeros(len(KINDS), len(PREFIX))
        column_bias = torch.where(visible, 0.0, HIDDEN)
        self._keep("prefix_bias", torch.cat([edge, column_bias, edge[:, :1]], dim=1))
        self._keep("ids", torch.tensor([QWEN.tokens[t] for t in (*PREFIX, "<|vision_end|>")]))
        decoder = model.model.language_model
        positions = torch.stack([text_positions(kind, slots) for kind in KINDS], dim=1)  # [3, K, L]
        cos, sin = decoder.rotary_emb(torch.zeros(1), positions)
        half = cos.shape[-1] // 2
        self._keep("cos", cos[..., :half].contiguous())
        self._keep("sin", sin[..., :half].contiguous())
        places = torch.stack([self._patches(row % WINDOW, column % WINDOW), self._patches(row, column)])  # [2, 400, 2]
        angles = [model.model.visual.rotary_pos_emb(torch.zeros(1), p) for p in places]
        self._keep("vision_cos", torch.stack([c for c, _ in angles])[..., : angles[0][0].shape[-1] // 2].contiguous())
        self._keep("vision_sin", torch.stack([s for _, s in angles])[..., : angles[0][0].shape[-1] // 2].contiguous())

    def _keep(self, name: str, value: torch.Tensor) -> None:
        self.register_buffer(name, value, persistent=False)

    @staticmethod
    def _patches(row: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """Patch rows and columns of tokens, four patches each: [400, 2], as the model's rotary embedding takes it."""
        inner = torch.arange(4)
        rows = (row[:, None] * 2 + inner // 2).flatten()
        columns = (column[:, None] * 2 + inner % 2).flatten()
        return torch.stack([rows, columns], dim=-1)

    def _block(self, block: Any, x: torch.Tensor, cos: Any, sin: Any, bias: torch.Tensor, full: bool) -> torch.Tensor:
        """One vision block on [B, 400, D]; windows are runs of 100 patches."""
        attention = block.attn
        q, k, v = attention.qkv(rms_norm(x, block.norm1)).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
        q, k, v = (y.transpose(1, 2) for y in (q, k, v))  # [B, H, 400, d]
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if not full:
            q, k, v = (y.unflatten(2, (4, -1)) for y in (q, k, v))
        out = attend(q, k, v, bias)
        out = out if full else out.flatten(2, 3)
        x = x + attention.proj(out.transpose(1, 2).flatten(2))
        mlp, normed = block.mlp, rms_norm(x, block.norm2)
        return x + mlp.down_proj(functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))

    def see(self, patches: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        """Features [B, 100, D] in reading order of patches [B, 400, F] in window order; ``kind`` [B]: :data:`KINDS`."""
        tower = self.model.model.visual
        x = functional.linear(patches, tower.patch_embed.proj.weight.flatten(1))
        video = kind == 0
        cos, sin = (t[(~video).long()][:, None] for t in (self.vision_cos, self.vision_sin))
        pad = self.window_bias[kind]  # [B, 400]
        near = pad.unflatten(1, (4, 1, -1))[:, None]  # [B, 1, 4, 1, 100]
        owner = torch.arange(400, device=x.device) // 100
        apart = (owner[:, None] != owner[None, :]) & video[:, None, None]
        far = torch.where(apart, HIDDEN, pad[:, None])[:, None]  # [B, 1, 400, 400]
        for i, block in enumerate(tower.blocks):
            full = i in tower.fullatt_block_indexes
            x = self._block(block, x, cos, sin, far if full else near, full)
        merged = tower.merger.mlp(rms_norm(x, tower.merger.ln_q).unflatten(1, (TOKENS, 4)).flatten(2))
        return torch.where(video[:, None, None], merged, merged[:, self.reading])

    def look(self, patches: torch.Tensor, kind: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Features [B, 100, D], dense logits [B, 100, C], and no further logits."""
        features = self.see(patches, kind_index(kind))
        return features, self.dense(features), []

    def forward(
        self, patches: torch.Tensor, slots: torch.Tensor, kind: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Logits [B, Q * SLOT, V] of the question slots, and dense logits [B, 100, C].

        Parameters
        ----------
        patches : Tensor [B, 400, F]
        slots : LongTensor [B, Q * SLOT]
        kind : LongTensor [B, 2]
            Rows and columns of tokens, 0 and 0 for a video.
        """
        features, dense, present = self.look(patches, kind)
        index = kind_index(kind)
        embed = self.model.get_input_embeddings()
        marks = embed(self.ids).expand(len(patches), -1, -1)
        inputs = torch.cat([marks[:, :-1], features, marks[:, -1:], embed(slots)], dim=1)
        cos, sin = self.cos[index][:, None], self.sin[index][:, None]
        bias = self.prefix_bias[index][:, None, None]
        prefix = inputs.shape[1] - slots.shape[1]
        hidden = decode_slots(self.model.model.language_model, inputs, prefix, self.slots, cos, sin, bias)
        return self.model.lm_head(hidden), dense, present


def prepare_patches(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels uint8 [B, 4, 2, 100, 100, 3] as the processor hands them on: [B, 400, 600] in [-1, 1]."""
    patch = CELL // 2
    split = pixels.unflatten(4, (WINDOW, 2, patch)).unflatten(3, (WINDOW, 2, patch))  # b w t gy my py gx mx px c
    ordered = split.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8)
    return ordered.flatten(6).flatten(1, 5).float() / 127.5 - 1
