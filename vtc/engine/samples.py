"""Rows that hold several samples: where position ids that start again tell them apart, as transformers has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .seams import Arguments, packed_samples
from .types import Cache


def samples_of(given: Arguments, cache: Cache | None, batch: int) -> Tensor | None:
    """Ordinal of the sample of every column [B, L]; None where no ids tell: behind a cache, three rows of M-RoPE."""
    positions = given["positions"]
    if positions is None or cache is not None or positions.ndim == 3 and positions.shape[0] != 4:
        return None
    return packed_samples((positions[0] if positions.ndim == 3 else positions).expand(batch, -1))


def samples_apart(decoder: Any, given: Arguments) -> bool:
    """True where the decoder looks at position ids to tell samples apart: without a mask, and without a cache."""
    return given["mask"] is None and not _makes_cache(decoder, given)


def _makes_cache(decoder: Any, given: Arguments) -> bool:
    """True where the decoder makes a cache of its own; with one, position ids tell no samples apart."""
    asked = given["use_cache"]
    asked = getattr(decoder.config, "use_cache", False) if asked is None else asked
    checkpoints = getattr(decoder, "gradient_checkpointing", False) and decoder.training and torch.is_grad_enabled()
    return bool(asked) and not checkpoints
