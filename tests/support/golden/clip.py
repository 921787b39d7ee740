"""A tiny CLIP vision model from the arrays of a golden file, and what its [CLS] token attends to."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel


def build(arrays, attn="sdpa"):
    config = {k[4:]: int(v) for k, v in arrays.items() if k.startswith("cfg_")}
    model = CLIPVisionModel._from_config(CLIPVisionConfig(**config), attn_implementation=attn)
    weights = {k[2:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("w.")}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert not [name for name in missing if "position_ids" not in name], missing
    return model.eval()


@torch.no_grad()
def observe(model, pixels):
    """[CLS] rows [L, B, H, N] in fp32 and ``hidden_states[-2]`` [B, 1 + N, C]."""
    queries, keys, handles = [], [], []
    for name, module in model.named_modules():
        if name.endswith("self_attn.q_proj"):
            handles.append(module.register_forward_hook(lambda m, a, out: queries.append(out[:, :1])))
        if name.endswith("self_attn.k_proj"):
            handles.append(module.register_forward_hook(lambda m, a, out: keys.append(out)))
    hidden = model(pixels, output_hidden_states=True).hidden_states[-2]
    for handle in handles:
        handle.remove()
    heads = model.config.num_attention_heads
    rows = [class_row(split(q, heads), split(k, heads)) for q, k in zip(queries, keys, strict=True)]
    return torch.stack(rows), hidden


def split(x, heads):
    """[B, S, H * d] as [B, H, S, d]."""
    return x.float().view(*x.shape[:2], heads, -1).transpose(1, 2)


def class_row(q, k):
    """Attention [B, H, S - 1] of query 0; softmax over all S keys."""
    logits = (q[:, :, :1] @ k.transpose(-1, -2))[:, :, 0] * q.shape[-1] ** -0.5
    return logits.softmax(-1)[..., 1:]
