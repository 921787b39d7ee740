"""What the engine tells an adapter about one call of the base model, in names of our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """Arguments of one call of the base model.

    Parameters
    ----------
    ids : LongTensor [B, L] or None
    embeds : Tensor [B, L, D] or None
    mask : object
        Attention mask as it was given: None, 2-D, finished 4-D, or what a kernel of transformers takes.
    real : BoolTensor [B, L] or None
        Which columns of a prompt of embeddings hold tokens, as the mask says; None: all.
    cached : int
        Tokens that lie in the cache.
    extra : mapping
        All arguments by the model's own names, for what only one family has.
    """

    ids: Tensor | None = None
    embeds: Tensor | None = None
    mask: Any = None
    real: Tensor | None = None
    cached: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
