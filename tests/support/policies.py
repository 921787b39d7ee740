"""A tiny random robot policy in the style of OpenVLA, with inputs; pi0 and the references are the product's."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf
from torch import Tensor, nn

from vtc.proof.masking import alive_layers
from vtc.proof.models.pi0 import IMAGE, PATCHES, build_pi0, pi0_inputs
from vtc.proof.policies import Seen, masked_layers, pi0_columns, pi0_oracle

from support.tiny import VOCAB, decoder_config, lively, noise

ACTIONS, HIDDEN = 7, 32
"""Action tokens per call, width of the decoder."""

__all__ = [
    "ACTIONS", "IMAGE", "PATCHES", "Prismatic", "Seen", "alive_layers", "build_pi0", "masked_layers", "observation",
    "pi0_columns", "pi0_inputs", "pi0_oracle",
]  # fmt: skip


class Prismatic(nn.Module):
    """DINOv2 and SigLIP side by side, a three-layer projector, a decoder of transformers: ``[BOS][image][text]``."""

    def __init__(self, cameras: int = 1, **text: Any) -> None:
        from timm.models.vision_transformer import VisionTransformer

        super().__init__()
        common = dict(img_size=IMAGE, patch_size=4, depth=3, num_heads=2, num_classes=0)
        self.dino = VisionTransformer(embed_dim=24, reg_tokens=4, no_embed_class=True, init_values=1e-1, **common)
        self.siglip = VisionTransformer(embed_dim=16, class_token=False, global_pool="avg", **common)
        widths = (40, 4 * 40, HIDDEN, HIDDEN)
        layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        self.projector = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.language_model = lively(tf.LlamaForCausalLM(decoder_config("llama", **{"num_hidden_layers": 6, **text})))
        self.cameras = cameras
        lively_rest(self)

    def embed(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Rows of ``[BOS][image][text]``; left padding of ``ids`` stays at the left."""
        flat = pixels.flatten(0, 1)
        towers = [t.get_intermediate_layers(flat, n={len(t.blocks) - 2})[0] for t in (self.dino, self.siglip)]
        image = self.projector(torch.cat(towers, -1)).reshape(len(pixels), self.cameras * PATCHES, HIDDEN)
        text = self.language_model.get_input_embeddings()(ids)
        starts = (ids != 0).long().argmax(1).tolist()
        return torch.stack(
            [torch.cat([t[: s + 1], i, t[s + 1 :]]) for t, i, s in zip(text, image, starts, strict=True)]
        )

    def mask(self, ids: Tensor) -> Tensor:
        """Attention mask of :meth:`embed`."""
        width = ids.shape[1] + self.cameras * PATCHES
        return (torch.arange(width)[None] >= (ids != 0).long().argmax(1, keepdim=True)).long()

    def act(self, pixels: Tensor, ids: Tensor, **options: Any) -> Any:
        """Greedy action tokens by the language model's own generate, with logits."""
        options = {"max_new_tokens": ACTIONS, "do_sample": False, **options}
        embeds, mask = self.embed(pixels, ids), self.mask(ids)
        return self.language_model.generate(
            inputs_embeds=embeds, attention_mask=mask, return_dict_in_generate=True, output_logits=True, **options
        )

    def loop(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """The same by a loop of its own: logits [B, ACTIONS, V]."""
        mask, found = self.mask(ids), []
        positions = (mask.cumsum(1) - 1).clamp_min(0)
        embeds = self.embed(pixels, ids)
        out = self.language_model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=True)
        for _ in range(ACTIONS):
            found.append(out.logits[:, -1])
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            positions = positions[:, -1:] + 1
            out = self.language_model(
                input_ids=found[-1].argmax(-1)[:, None],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=out.past_key_values,
            )
        return torch.stack(found, 1)

    def chunk(self, pixels: Tensor, ids: Tensor, number: int) -> Tensor:
        """``number`` actions in one pass over placeholders that see everything: logits [B, number, V]."""
        embeds, real = self.embed(pixels, ids), self.mask(ids).bool()
        embeds = torch.cat([embeds, embeds.new_zeros(len(ids), number, HIDDEN) + 0.1], 1)
        real = torch.cat([real, torch.ones(len(ids), number, dtype=torch.bool)], 1)
        mask = real[:, None, None] & real[:, None, :, None]
        if self.language_model.config._attn_implementation == "eager":
            mask = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        positions = (real.long().cumsum(1) - 1).clamp_min(0)
        out = self.language_model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False)
        return out.logits[:, -number:]


def lively_rest(policy: Prismatic) -> None:
    """Large random weights outside of the language model."""
    generator = torch.Generator().manual_seed(3)
    for part in (policy.dino, policy.siglip, policy.projector):
        for p in part.parameters():
            if p.ndim >= 2:
                p.data = torch.randn(p.shape, generator=generator) * 0.2
    policy.eval()


def observation(seed: int = 0, rows: int = 1, words: tuple[int, ...] = (6,), cameras: int = 1) -> tuple[Tensor, Tensor]:
    """Pixels and ids of one step; a row's instruction does not depend on ``seed``. Shorter rows are left-padded."""
    pixels = noise(rows, cameras, 3, IMAGE, IMAGE, seed=seed)
    counts = [words[r % len(words)] for r in range(rows)]
    ids = torch.zeros(rows, 1 + max(counts), dtype=torch.long)
    for row, count in enumerate(counts):
        generator = torch.Generator().manual_seed(500 + row)
        ids[row, -count - 1] = 1
        ids[row, -count:] = torch.randint(20, VOCAB, (count,), generator=generator)
    return pixels, ids
