"""tiny-qwen2_5-vl: the forward pass that trains it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .canvas import CANVAS, HIDDEN, KINDS, PREFIX, TOKENS, canvas_places, kind_index, text_positions, visible_tokens
from .decoder import attend, decode_slots, rms_norm, rotate
from .places import TENTHS
from .qwen_pool import WINDOW
from .targets import HEADS
from .vocabulary import QWEN


class QwenTrainee(nn.Module):
    """The model with its auxiliary head, which is not exported.

    Parameters
    ----------
    model : Qwen2_5_VLForConditionalGeneration
    slots : int
        Questions per picture.
    """

    reading: torch.Tensor
    window_bias: torch.Tensor
    prefix_bias: torch.Tensor
    ids: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    vision_cos: torch.Tensor
    vision_sin: torch.Tensor

    def __init__(self, model: Any, slots: int) -> None:
        super().__init__()
        self.model, self.slots = model, slots
        self.dense = nn.Linear(model.config.text_config.hidden_size, sum(n for _, n in HEADS))
        self.places = nn.Linear(model.config.text_config.hidden_size, 2 * TENTHS)
        row, column = canvas_places()
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

    def vary(self, rng: np.random.Generator | None) -> None:
        """Change nothing: M-RoPE places a token by its row and column, whichever others are kept."""

    def look(self, patches: torch.Tensor, kind: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Features [B, 100, D], dense logits [B, 100, C], and no further logits."""
        features = self.see(patches, kind_index(kind))
        return features, self.dense(features), []

    def forward(
        self, patches: torch.Tensor, slots: torch.Tensor, kind: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], torch.Tensor]:
        """Logits [B, Q * SLOT, V] of the question slots, dense logits [B, 100, C], none, and places [B, 100, 20].

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
        hidden, middle = decode_slots(self.model.model.language_model, inputs, prefix, self.slots, cos, sin, bias)
        return self.model.lm_head(hidden), dense, present, self.places(middle[:, len(PREFIX) : len(PREFIX) + TOKENS])
