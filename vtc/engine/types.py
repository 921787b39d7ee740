"""Types of what transformers hands to the engine: caches, configurations, outputs."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from torch import Tensor

Called: TypeAlias = tuple[tuple, dict[str, Any]]
"""Arguments of a module, as its pre-hooks return them."""


class CacheLayer(Protocol):
    """Layer of a cache that stores keys and values per token."""

    is_compileable: bool

    def get_seq_length(self) -> int:
        """Tokens it has seen."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys behind ``query_length`` new tokens, and the logical column of the first."""


class Cache(Protocol):
    """Cache of all layers."""

    layers: list[Any]

    def get_seq_length(self) -> int:
        """Tokens its first layer has seen."""


class DecoderConfig(Protocol):
    """Configuration of a decoder."""

    num_hidden_layers: int


class DecoderOutput(Protocol):
    """What a decoder returns; attention maps and hidden states only when they were asked for."""

    last_hidden_state: Tensor
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Any, ...] | None
