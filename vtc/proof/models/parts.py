"""What tiny models are made of: sizes, ids, random weights, and padded rows of ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf
from torch import Tensor, nn

PAD, BOS, EOS, VS, VE, IMG, VID = 0, 1, 2, 10, 11, 12, 13
BREAK = 14
SPECIAL = list(range(20))
"""Ids with a meaning; all others are text."""
VOCAB = 160
SIDE = 24
"""Height and width of a picture or tile in pixels."""
TEXT: dict[str, Any] = dict(
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
VISION: dict[str, Any] = dict(
    hidden_size=24, intermediate_size=32, num_hidden_layers=4, num_attention_heads=3, patch_size=4, image_size=SIDE
)
MROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
Inputs = dict[str, Tensor]
Sample = list[Any]
"""A prompt: a number stands for that many text ids, anything else for an image or a video."""


@dataclass
class Case:
    """A set-up: how to build it, and how to make inputs for prompts given as parts.

    Attributes
    ----------
    name : str
        The family, behind a hyphen what is special about this set-up.
    family : str
    build : callable
        The model, in float32 on the CPU.
    inputs : callable
        ``inputs(samples, seeds, side)``: a batch, one row per sample, padded on ``side``.
    tokens : callable
        Visual tokens of a part of a sample.
    samples : list
        Prompts of the batch: with one image or video, with more, with none.
    """

    name: str
    family: str
    build: Callable[[], Any]
    inputs: Callable[..., Inputs]
    tokens: Callable[[Any], int]
    samples: list[Sample] = field(default_factory=list)

    def batch(self, side: str = "left") -> Inputs:
        """All samples in one padded batch."""
        return self.inputs(self.samples, list(range(len(self.samples))), side)

    def alone(self, index: int) -> Inputs:
        """One sample, the same as in the batch."""
        return self.inputs([self.samples[index]], [index])


def noise(*shape: int, seed: int) -> Tensor:
    """Normal noise, float32, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def lively(model: Any, seed: int = 0) -> Any:
    """Large random weights: attention is peaked and tokens differ, so a wrong mask cannot hide."""
    generator = torch.Generator().manual_seed(seed)
    ground(model)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.18)
            elif "bias" in name or "embedding" in name or "cls" in name:
                p.copy_(torch.randn(p.shape, generator=generator) * (0.02 if "bias" in name else 0.5))
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = None
    return model.eval()


def ground(model: nn.Module) -> None:
    """Put parameters on the CPU, in place.

    Inside accelerate's ``init_empty_weights`` and ``init_on_device`` every new parameter goes elsewhere, whatever the
    code that makes it says. Those without values become ones here; matrices get theirs in :func:`lively`.
    """
    for module in model.modules():
        for name, p in list(module._parameters.items()):
            if p is not None and p.device.type != "cpu":
                data = torch.ones(p.shape, dtype=p.dtype) if p.is_meta else p.detach().cpu()
                # not setattr: that would send it back
                module._parameters[name] = nn.Parameter(data, requires_grad=p.requires_grad)


def decoder_config(kind: str, **extra: Any) -> Any:
    """Config of a plain decoder: "llama", "mistral", "qwen2" or "qwen3"."""
    names = {"llama": tf.LlamaConfig, "mistral": tf.MistralConfig, "qwen2": tf.Qwen2Config, "qwen3": tf.Qwen3Config}
    options = {**TEXT, **extra}
    if kind == "qwen3":
        options.setdefault("head_dim", 8)
    return names[kind](**options)


def pad_rows(rows: list[list[int]], side: str = "left", value: int = PAD) -> tuple[Tensor, Tensor]:
    """Ids and attention mask [B, L] of rows of different lengths."""
    width = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        gap = width - len(row)
        ids.append([value] * gap + row if side == "left" else row + [value] * gap)
        mask.append([0] * gap + [1] * len(row) if side == "left" else [1] * len(row) + [0] * gap)
    return torch.tensor(ids), torch.tensor(mask)


def text_ids(count: int, seed: int) -> list[int]:
    """Ids of text, the same for the same seed."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randint(20, VOCAB, (count,), generator=generator).tolist()
