"""The decoder's training pass: one picture, several questions that do not see one another.

It computes what transformers' decoder layers (Llama, Qwen2) compute under a block mask, from the same weights, but
without the masked part of the score matrix, and with plain matrix products: on a CPU the fused attention kernel's
backward pass is several times slower in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

MIDDLE = 2
"""Decoder layers after which image tokens should know where they lie."""


def rms_norm(x: torch.Tensor, norm: Any) -> torch.Tensor:
    """Root-mean-square norm in float32, result in the dtype of ``x``."""
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + norm.variance_epsilon)
    return wide.to(x.dtype) * norm.weight


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of x [B, H, L, D] by cos, sin [..., L, D / 2] (half-split layout)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax attention over the last two dimensions, [..., L, D]; ``bias`` is added to the scores."""
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias
    return scores.softmax(-1).to(v.dtype) @ v


def _causal(length: int, device: torch.device) -> torch.Tensor:
    return torch.full((length, length), float("-inf"), device=device).triu(1)


def _heads(x: torch.Tensor, size: int) -> torch.Tensor:
    return x.unflatten(-1, (-1, size)).transpose(1, 2)


def _attend_slots(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    prefix: int,
    slots: int,
    full: bool,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    """Attention of the slots (and of the prefix if ``full``): [B, H, L, D] each."""
    qs, ks, vs = (x[:, :, prefix:].unflatten(2, (slots, -1)) for x in (q, k, v))  # [B, H, Q, S, D]
    kp, vp = k[:, :, :prefix], v[:, :, :prefix]
    scale, length = q.shape[-1] ** -0.5, qs.shape[3]
    far = (q[:, :, prefix:] @ kp.transpose(-1, -2)).float() * scale
    far = (far if bias is None else far + bias).unflatten(2, (slots, -1))
    near = (qs @ ks.transpose(-1, -2)).float() * scale + _causal(length, q.device)
    weights = torch.cat([far, near], -1).softmax(-1).to(v.dtype)
    out = weights[..., :prefix].flatten(2, 3) @ vp + (weights[..., prefix:] @ vs).flatten(2, 3)
    if not full:
        return out
    causal = _causal(prefix, q.device)
    first = attend(q[:, :, :prefix], kp, vp, causal if bias is None else causal + bias)
    return torch.cat([first, out], dim=2)


def decode_slots(
    decoder: Any,
    inputs: torch.Tensor,
    prefix: int,
    slots: int,
    cos: torch.Tensor,
    sin: torch.Tensor,
    bias: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states of the question slots after the decoder, and of the prefix in the middle of it.

    Parameters
    ----------
    decoder : LlamaModel or Qwen2_5_VLTextModel
    inputs : Tensor [B, L, D]
        Embedded prefix and slots.
    prefix, slots : int
        Length of the prefix; number of slots, which share the rest evenly.
    cos, sin : Tensor [L, head size / 2] or [B, 1, L, head size / 2]
    bias : Tensor [B, 1, 1, prefix], optional
        Added to every score of a prefix column: very negative where the column is padding.

    Returns
    -------
    Tensor [B, L - prefix, D], Tensor [B, prefix, D]
    """
    hidden = inputs
    count = len(decoder.layers)
    for i, layer in enumerate(decoder.layers):
        attention = layer.self_attn
        size = attention.head_dim
        normed = rms_norm(hidden, layer.input_layernorm)
        q, k, v = (_heads(p(normed), size) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if k.shape[1] != q.shape[1]:
            k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        full = i + 1 < count  # nothing reads the prefix after the last layer
        mixed = _attend_slots(q, k, v, prefix, slots, full, bias).transpose(1, 2).flatten(2)
        hidden = (hidden if full else hidden[:, prefix:]) + attention.o_proj(mixed)
        normed = rms_norm(hidden, layer.post_attention_layernorm)
        mlp = layer.mlp
        hidden = hidden + mlp.down_proj(functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
        if i + 1 == MIDDLE:
            middle = hidden[:, :prefix]
    return rms_norm(hidden, decoder.norm), middle
