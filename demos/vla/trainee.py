"""The policy's training pass and losses: one picture, several tasks that do not see one another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vtc.eval.training.decoder import decode_slots

from .experience import HANDS, SLOT, Lessons
from .model import Policy
from .words import IDS, MARKER_AT, NAMES, OBJECT_AT, PLATE_AT, TEXT_LENGTH

EMPTY = 0.05
"""Weight of image tokens with nothing on them."""


class Trainee(nn.Module):
    """The policy with auxiliary heads, which are not saved.

    What lies under an image token is told by its product with the embeddings of the names: features and words come to
    speak one language.

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
        heads = {"hand": HANDS, "place": 4, "name": 2, "goal": 4}
        self.dense = nn.ModuleDict({name: nn.Linear(width, count) for name, count in heads.items()})
        self.scale, self.nothing = nn.Parameter(torch.full((1,), 4.0)), nn.Parameter(torch.zeros(1))
        self.names = [IDS[name] for name in NAMES]
        tower: Any = policy.vision_tower
        for block in tower.blocks:
            block.attn.fused_attn = False  # plain products have the faster backward pass in bfloat16 on a CPU
        prefix = 1 + policy.image_length
        positions = torch.cat([torch.arange(prefix), (prefix + torch.arange(SLOT)).repeat(tasks)])
        cos, sin = policy.language_model.model.rotary_emb(torch.zeros(1), positions[None])
        half = cos.shape[-1] // 2
        self.register_buffer("cos", cos[0, :, :half].contiguous(), persistent=False)
        self.register_buffer("sin", sin[0, :, :half].contiguous(), persistent=False)

    def look(self, pixels: Tensor, frozen: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Image tokens [B, N, D], and what is read from them: kinds, hands, places; a frozen tower learns nothing."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            seen = self.policy.vision_tower.forward_features(pixels)  # type: ignore[operator]
        features = self.policy.projector(seen)
        words = self.policy.language_model.get_input_embeddings().weight
        kinds = features @ words[self.names].T * self.scale
        kinds = torch.cat([self.nothing.expand(*kinds.shape[:2], 1), kinds], -1)
        return features, [kinds, self.dense["hand"](features), self.dense["place"](features)]

    def forward(
        self, pixels: Tensor, slots: Tensor, shown: Tensor | None = None, frozen: bool = False
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Dense readings, logits [B, Q, SLOT, V] of the slots, and goals [B, Q, 8] read from names and markers.

        Parameters
        ----------
        pixels : Tensor [B, 3, S, S]
        slots : LongTensor [B, Q * SLOT]
        shown : LongTensor [B, K], optional
            Image tokens the decoder sees, at their own positions; all by default.
        frozen : bool
            See :meth:`look`.
        """
        features, dense = self.look(pixels, frozen)
        prefix, cos, sin = 1 + self.policy.image_length, self.cos, self.sin
        if shown is not None:
            features = features.gather(1, shown[..., None].expand(-1, -1, features.shape[-1]))
            ends = torch.arange(prefix, len(cos)).expand(len(shown), -1)
            columns = torch.cat([torch.zeros_like(shown[:, :1]), shown + 1, ends], 1)
            cos, sin, prefix = cos[columns][:, None], sin[columns][:, None], 1 + shown.shape[1]
        words = self.policy.language_model.get_input_embeddings()
        start = words.weight[IDS["<s>"]].expand(len(pixels), 1, -1)
        inputs = torch.cat([start, features, words(slots)], dim=1)
        decoder = self.policy.language_model.model
        hidden, _ = decode_slots(decoder, inputs, prefix, self.tasks, cos, sin)
        hidden = hidden.unflatten(1, (self.tasks, SLOT))
        names = self.dense["name"](hidden[:, :, [OBJECT_AT, PLATE_AT]]).flatten(2)
        goals = torch.cat([names, self.dense["goal"](hidden[:, :, MARKER_AT])], -1)
        return dense, self.policy.language_model.lm_head(hidden), goals


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
    found = logits[:, :, MARKER_AT:-1]
    loss = functional.cross_entropy(found.float().flatten(0, 2), truth.flatten())
    right = (found.argmax(-1) == truth).all(-1).float().mean()
    return loss, _distance(goals, lessons.goals), right
