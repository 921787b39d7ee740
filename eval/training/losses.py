"""Losses of the answers and of the auxiliary heads, and which answers are right."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from .reader import Batch
from .targets import HEADS


def cross_entropy_of_heads(logits: torch.Tensor, targets: torch.Tensor, empty: float = 0.03) -> torch.Tensor:
    """Sum of the cross entropies of the dense heads; class 0 ("nothing here") counts ``empty``.

    Parameters
    ----------
    logits : Tensor [B, N, C]
    targets : LongTensor [B, len(HEADS), N]
    """
    total = logits.new_zeros((), dtype=torch.float32)
    parts = logits.float().split([n for _, n in HEADS], dim=-1)
    for i, part in enumerate(parts):
        weight = torch.ones(part.shape[-1], device=part.device)
        weight[0] = empty
        total = total + functional.cross_entropy(part.flatten(0, 1), targets[:, i].flatten(), weight=weight)
    return total


def place_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross entropy of the places of the image tokens: logits [B, N, 2 * TENTHS]."""
    column, row = (p.flatten(0, 1) for p in logits.float().chunk(2, dim=-1))
    places = batch.places.transpose(0, 1).flatten(1)
    return functional.cross_entropy(column, places[0]) + functional.cross_entropy(row, places[1])


def answer_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross entropy of the answer tokens."""
    where = batch.answers[:, :-1]
    return functional.cross_entropy(logits[:, :-1][where].float(), batch.slots[:, 1:][where])


def exact_answers(logits: torch.Tensor, batch: Batch) -> np.ndarray:
    """Which answers are right to the last token: bool [B, Q]."""
    wrong = (logits[:, :-1].argmax(-1) != batch.slots[:, 1:]) & batch.answers[:, :-1]
    wrong = functional.pad(wrong, (0, 1)).unflatten(1, (batch.families.shape[1], -1))
    return ~wrong.any(-1).cpu().numpy()


def tower_loss(dense: torch.Tensor, present: list[torch.Tensor], batch: Batch) -> torch.Tensor:
    """Loss of the auxiliary heads."""
    loss = cross_entropy_of_heads(dense, batch.dense)
    for logits in present:
        loss = loss + functional.binary_cross_entropy_with_logits(logits.float(), batch.present) * 4
    return loss
