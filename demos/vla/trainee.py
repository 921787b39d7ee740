"""The policy's training pass and losses: one picture, several tasks that do not see one another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from vtc.eval.training.decoder import decode_slots

from .experience import HANDS, KINDS, SLOT, Lessons
from .model import Policy
from .words import IDS, TEXT_LENGTH

EMPTY = 0.05
"""Weight of image tokens with nothing on them."""


def lattice(width: int, grid: int) -> Tensor:
    """Sines and cosines of the two coordinates of each token: [1, grid * grid, width]."""
    rates = 2.0 ** torch.linspace(0, 5, width // 4)
    axis = (torch.arange(grid) + 0.5) / grid * torch.pi
    waves = axis[:, None] * rates
    waves = torch.cat([waves.sin(), waves.cos()], -1)
    rows, columns = waves[:, None].expand(grid, grid, -1), waves[None].expand(grid, grid, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)[None]


class Trainee(nn.Module):
    """The policy with auxiliary heads, which are not saved.

    Parameters
    ----------
    policy : Policy
    tasks : int
        Tasks per picture.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, policy: Policy, tasks: int) -> None:
        super().__init__()
        self.policy, self.tasks = policy, tasks
        width = policy.config.width
        self.dense = nn.ModuleList(nn.Linear(width, n) for n in (KINDS, HANDS, 4, 4))
        tower: Any = policy.vision_tower
        with torch.no_grad():
            tower.pos_embed.copy_(0.3 * lattice(policy.config.vision_width, policy.config.grid))
        for block in tower.blocks:
            block.attn.fused_attn = False  # plain products have the faster backward pass in bfloat16 on a CPU
        prefix = 1 + policy.image_length
        positions = torch.cat([torch.arange(prefix), (prefix + torch.arange(SLOT)).repeat(tasks)])
        cos, sin = policy.language_model.model.rotary_emb(torch.zeros(1), positions[None])
        half = cos.shape[-1] // 2
        self.register_buffer("cos", cos[0, :, :half].contiguous(), persistent=False)
        self.register_buffer("sin", sin[0, :, :half].contiguous(), persistent=False)

    def look(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image tokens [B, N, D], and what the auxiliary heads read from them."""
        features = self.policy.features(pixels)
        return features, [head(features) for head in self.dense[:3]]

    def forward(self, pixels: Tensor, slots: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Dense readings, logits [B, Q, SLOT, V] of the slots, and goals [B, Q, 4] read from the markers."""
        features, dense = self.look(pixels)
        words = self.policy.language_model.get_input_embeddings()
        start = words.weight[IDS["<s>"]].expand(len(pixels), 1, -1)
        inputs = torch.cat([start, features, words(slots)], dim=1)
        prefix = 1 + self.policy.image_length
        decoder = self.policy.language_model.model
        hidden = decode_slots(decoder, inputs, prefix, self.tasks, self.cos, self.sin).unflatten(1, (self.tasks, SLOT))
        return dense, self.policy.language_model.lm_head(hidden), self.dense[3](hidden[:, :, TEXT_LENGTH - 1])


def _distance(found: Tensor, true: Tensor) -> Tensor:
    known = ~true.isnan()
    return functional.smooth_l1_loss(found.float()[known] * 4, true[known] * 4, beta=0.2)


def dense_loss(dense: list[Tensor], lessons: Lessons) -> Tensor:
    """Loss of what lies under each image token and where its centre is."""
    total = _distance(dense[2], lessons.places)
    for logits, truth in zip(dense[:2], (lessons.kinds, lessons.hands), strict=True):
        weight = torch.ones(logits.shape[-1])
        weight[0] = EMPTY
        total = total + functional.cross_entropy(logits.float().flatten(0, 1), truth.flatten(), weight=weight)
    return total


def action_loss(logits: Tensor, goals: Tensor, lessons: Lessons) -> tuple[Tensor, Tensor, Tensor]:
    """Cross entropy of the action tokens, loss of the goals, and share of actions that are right to the last token."""
    truth = lessons.slots.unflatten(1, (-1, SLOT))[:, :, TEXT_LENGTH:]
    found = logits[:, :, TEXT_LENGTH - 1 : -1]
    loss = functional.cross_entropy(found.float().flatten(0, 2), truth.flatten())
    right = (found.argmax(-1) == truth).all(-1).float().mean()
    return loss, _distance(goals, lessons.goals), right
