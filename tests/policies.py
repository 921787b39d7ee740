"""Tiny random robot policies: an OpenVLA-style one of our own and pi0, with inputs and brute-force references."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers as tf
from tiny import VOCAB, decoder_config, lively, noise
from torch import Tensor, nn

IMAGE, PATCHES, ACTIONS, HIDDEN = 16, 16, 7, 32
"""Side of the picture in pixels, patches per camera, action tokens per call, width of the decoder."""


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


def build_pi0(attention: str = "sdpa", layers: int = 6) -> Any:
    """pi0 with a prefix of 6 layers and 4 flow steps over a chunk of 6 actions."""
    heads = dict(num_attention_heads=4, num_key_value_heads=1, head_dim=16, num_hidden_layers=layers)
    vision = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, patch_size=4)
    config = tf.PI0Config(
        vlm_config=dict(
            model_type="paligemma",
            projection_dim=64,
            image_token_id=199,
            text_config=dict(model_type="gemma", vocab_size=200, hidden_size=64, intermediate_size=96, **heads),
            vision_config=dict(model_type="siglip_vision_model", image_size=IMAGE, vision_use_head=False, **vision),
        ),
        dit_config=dict(model_type="gemma", vocab_size=200, hidden_size=32, intermediate_size=64, **heads),
        chunk_size=6,
        max_state_dim=5,
        max_action_dim=5,
        num_inference_steps=4,
    )
    model = tf.PI0ForConditionalGeneration._from_config(config, attn_implementation=attention).eval()
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        if p.ndim >= 2:
            p.data = torch.randn(p.shape, generator=generator) * p.shape[-1] ** -0.5
    return model


def pi0_inputs(seed: int = 0, cameras: tuple[int, ...] = (2, 1), words: tuple[int, ...] = (7, 5)) -> dict[str, Tensor]:
    """One row per entry of ``cameras``; missing cameras are padded slots, shorter prompts are padded on the right."""
    rows, most = len(cameras), max(cameras)
    prompts = []
    for row, (count, length) in enumerate(zip(cameras, words, strict=True)):
        generator = torch.Generator().manual_seed(700 + row)
        prompts.append([199] * (PATCHES * count) + torch.randint(1, 190, (length,), generator=generator).tolist())
    width = max(map(len, prompts))
    return dict(
        input_ids=torch.tensor([p + [0] * (width - len(p)) for p in prompts]),
        attention_mask=torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in prompts]),
        pixel_values=noise(rows, most, 3, IMAGE, IMAGE, seed=seed),
        pixel_attention_mask=torch.tensor([[c < count for c in range(most)] for count in cameras]),
        state=noise(rows, 5, seed=seed + 50),
        noise=noise(rows, 6, 5, seed=seed + 90),
    )


@dataclass
class Seen:
    """What eager attention showed: per layer, rows [B, H, Q, K] of every call."""

    rows: dict[int, list[Tensor]]


@contextmanager
def masked_layers(layers: Any, alive: Tensor, seen: Seen | None = None):
    """Hide columns ``~alive[layer]`` [B, P] of the first P keys from every query of every layer, and note attention."""
    handles = []
    for i, layer in enumerate(layers):
        handles.append(layer.register_forward_pre_hook(partial(_hide, alive[i]), with_kwargs=True))
        if seen is not None:
            handles.append(layer.self_attn.register_forward_hook(partial(_note, seen, i)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hide(alive: Tensor, module: Any, args: Any, kwargs: Any) -> Any:
    given, hidden = kwargs["attention_mask"], args[0]
    cache, index = kwargs.get("past_key_values"), module.self_attn.layer_idx
    held = 0 if cache is None else cache.get_seq_length(index)
    width = hidden.shape[1]
    if given is None:
        given = torch.ones(1, 1, width, held + width, dtype=torch.bool).tril(held)
    shown = given if given.dtype == torch.bool else given == 0
    shown = shown.expand(len(alive), 1, -1, -1).clone()
    known = min(alive.shape[1], shown.shape[-1])
    shown[..., :known] &= alive[:, None, None, :known]
    kwargs["attention_mask"] = torch.zeros(shown.shape, dtype=hidden.dtype).masked_fill(~shown, -1e30)
    return args, kwargs


def _note(seen: Seen, index: int, module: Any, args: Any, output: Any) -> None:
    if output[1] is not None:
        seen.rows.setdefault(index, []).append(output[1].detach())


def alive_layers(record: Any, columns: list[Tensor], real: Tensor, layers: int) -> Tensor:
    """Bool [layers, B, L] from a record: ``columns`` are the image columns of every image in its order."""
    alive = real.bool().expand(layers, -1, -1).clone()
    for log, where in zip(record.images, columns, strict=True):
        for start, kept in log.cuts:
            alive[start:, log.row, where] = False
            alive[start:, log.row, where[kept]] = True
    return alive


def pi0_columns(inputs: dict[str, Tensor], record: Any) -> list[Tensor]:
    """Columns of every camera of a record, from the ids."""
    found = []
    for log in record.images:
        where = (inputs["input_ids"][log.row] == 199).nonzero()[:, 0]
        found.append(where[log.image * PATCHES : (log.image + 1) * PATCHES])
    return found


@torch.no_grad()
def pi0_oracle(model: Any, handle: Any, inputs: dict[str, Tensor], seen: Seen | None = None) -> Tensor:
    """Actions of the unpruned model with everything dropped masked out, in the prefix and for the expert."""
    layers = len(model.model.dit.layers)
    alive = alive_layers(handle.last, pi0_columns(inputs, handle.last), inputs["attention_mask"], layers)
    prefix, expert = model.model.vlm.language_model.layers, model.model.dit.layers
    with handle.disabled(), masked_layers(prefix, alive), masked_layers(expert, alive, seen):
        return model.sample_actions(**inputs)
