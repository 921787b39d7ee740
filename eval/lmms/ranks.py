"""Several processes: what each knows, brought together."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def is_first() -> bool:
    """Whether this is the process that writes."""
    return not _together() or dist.get_rank() == 0


def gathered(value: Any) -> list[Any]:
    """``value`` of every rank, in order of rank, on every rank; every rank must call it."""
    if not _together():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
