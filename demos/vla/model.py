"""The policy: a timm ViT, a projector and a Llama decoder, put together as in OpenVLA (arXiv 2406.09246)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtc.core.fields import field_types, fit
from vtc.files import read_json

from .drawing import SIDE
from .words import DIMENSIONS, IDS, WORDS

ASSETS = Path(__file__).parents[1] / "assets" / "tiny-vla"
IMAGE_START = 1
"""Column of the first image token: [BOS] stands before it."""


@dataclass(frozen=True)
class PolicyConfig:
    """Sizes of a policy.

    Parameters
    ----------
    patch : int
        Pixels per side of an image token.
    vision_width, vision_layers, vision_heads : int
    width, layers, heads, inner : int
        Of the decoder; ``inner`` is that of its feed-forward networks.
    """

    patch: int = 8
    vision_width: int = 128
    vision_layers: int = 3
    vision_heads: int = 4
    width: int = 128
    layers: int = 8
    heads: int = 4
    inner: int = 352

    @property
    def grid(self) -> int:
        """Image tokens per side."""
        return SIDE // self.patch


def lattice(width: int, grid: int) -> Tensor:
    """Sines and cosines of the two coordinates of each token: [1, grid * grid, width]."""
    rates = 2.0 ** torch.linspace(0, 5, width // 4)
    axis = (torch.arange(grid) + 0.5) / grid * torch.pi
    waves = axis[:, None] * rates
    waves = torch.cat([waves.sin(), waves.cos()], -1)
    rows, columns = waves[:, None].expand(grid, grid, -1), waves[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)[None]


def _tower(config: PolicyConfig) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    tower = VisionTransformer(
        img_size=SIDE,
        patch_size=config.patch,
        embed_dim=config.vision_width,
        depth=config.vision_layers,
        num_heads=config.vision_heads,
        num_classes=0,
        global_pool="",
        class_token=False,
    )
    with torch.no_grad():
        places: Any = tower.pos_embed
        places.copy_(0.3 * lattice(config.vision_width, config.grid))
    return tower


def _decoder(config: PolicyConfig) -> Any:
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=config.width,
            intermediate_size=config.inner,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            vocab_size=len(WORDS),
            max_position_embeddings=512,
            pad_token_id=IDS["<pad>"],
            bos_token_id=IDS["<s>"],
            eos_token_id=IDS["</s>"],
        )
    )
    # an action has a fixed number of tokens: none of them ends it
    model.generation_config = GenerationConfig(
        max_new_tokens=len(DIMENSIONS), do_sample=False, pad_token_id=IDS["<pad>"], eos_token_id=None
    )
    return model


class Policy(nn.Module):
    """A vision-language-action model for the table.

    The decoder is handed ``[BOS][image tokens][instruction][marker]`` as embeddings and generates one token per
    dimension of an action.

    Parameters
    ----------
    config : PolicyConfig
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = _tower(config)
        self.projector = nn.Sequential(
            nn.Linear(config.vision_width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.language_model = _decoder(config)

    @property
    def image_length(self) -> int:
        """Image tokens of a prompt."""
        return self.config.grid**2

    def features(self, pixels: Tensor) -> Tensor:
        """Image tokens [B, N, D] of pixels [B, 3, S, S] in [-1, 1]."""
        return self.projector(self.vision_tower.forward_features(pixels))  # type: ignore[operator]

    def embed(self, pixels: Tensor, text: Tensor) -> Tensor:
        """Prompt [B, 1 + N + T, D] of pixels and instruction tokens [B, T]."""
        words = self.language_model.get_input_embeddings()
        start = words.weight[IDS["<s>"]].expand(len(pixels), 1, -1)
        return torch.cat([start, self.features(pixels), words(text)], dim=1)

    @torch.inference_mode()
    def act(self, images: Tensor, text: Tensor) -> Tensor:
        """One policy call: action tokens [B, 3] of images uint8 [B, S, S, 3] and instruction tokens [B, T]."""
        pixels = prepare(images).to(next(self.projector.parameters()).dtype)
        prompt = self.embed(pixels, text)
        seen = torch.ones(prompt.shape[:2], dtype=torch.long, device=prompt.device)
        return self.language_model.generate(inputs_embeds=prompt, attention_mask=seen)

    def save(self, folder: Path, **facts: Any) -> None:
        """Write config and weights (bfloat16); ``facts`` go into the configuration."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(
            json.dumps({**asdict(self.config), "words": WORDS, **facts}, indent=2) + "\n"
        )
        weights = {name: value.to(torch.bfloat16).contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def prepare(images: Tensor) -> Tensor:
    """Pixels uint8 [B, S, S, 3] as the tower takes them: float32 [B, 3, S, S] in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def load_policy(folder: Path = ASSETS) -> Policy:
    """Policy in eval mode, float32, on the CPU.

    Raises
    ------
    FileNotFoundError
        No policy in the folder.
    ValueError
        It was trained on another vocabulary.
    """
    from safetensors.torch import load_file

    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"No policy in {folder}: train one with `python -m vtc.demos.vla.train --out {folder}`."
        )
    given = read_json(path, "configuration of a policy")
    types = field_types(PolicyConfig)
    lacking = sorted({"words", *types} - set(given)) if isinstance(given, dict) else ["words"]
    if lacking:
        raise ValueError(f"{path} is no configuration of a policy: it lacks {', '.join(lacking)}.")
    if not isinstance(given["words"], list) or tuple(given["words"]) != WORDS:
        raise ValueError(f"The policy in {folder} was trained on another vocabulary; train it again.")
    policy = Policy(PolicyConfig(**{name: fit(name, given[name], hint) for name, hint in types.items()}))
    policy.load_state_dict(load_file(folder / "model.safetensors"))
    return policy.float().eval()
