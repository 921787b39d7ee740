"""What the operators share: per-row counts of a ragged batch, checks of shapes, block sizes, types of sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Counts = int | Sequence[int] | Tensor | None


def row_counts(value: Counts, batch: int, limit: int, device: torch.device, what: str) -> Tensor:
    """Turn an int, a list or a tensor into int32 counts ``[B]`` between 0 and ``limit``.

    Parameters
    ----------
    value : int, sequence of int, Tensor [B] or None
        None means ``limit`` in every row. Counts above ``limit`` mean ``limit``.
    batch, limit : int
    device : torch.device
    what : str
        Name of the argument, for the error.

    Returns
    -------
    Tensor [B], int32

    Raises
    ------
    ValueError
        For a wrong length, or a negative count given on the host.
    TypeError
        For anything that is not a count, booleans and floats included.
    """
    if value is None:
        value = limit
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.dtype == torch.bool:
            raise TypeError(f"{what} must hold integers, got a tensor of {value.dtype}.")
        if value.shape not in ((), (batch,)):
            raise ValueError(f"{what} has shape {tuple(value.shape)}; allowed: one integer, or one per row, [{batch}].")
        counts = value.to(device=device).expand(batch)
        return counts.clamp(0, limit).to(torch.int32).contiguous()
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return torch.full((batch,), min(value, limit), dtype=torch.int32, device=device)
    listed = list(value) if isinstance(value, Sequence) else [value] * batch
    if any(isinstance(v, bool) or not isinstance(v, int) for v in listed):
        raise TypeError(f"{what}={value!r}: allowed are integers, one for the batch or one per row.")
    if len(listed) != batch:
        raise ValueError(f"{what} has {len(listed)} entries for a batch of {batch}.")
    if any(v < 0 for v in listed):
        raise ValueError(f"{what}={value!r}: counts cannot be negative.")
    return torch.tensor([min(v, limit) for v in listed], dtype=torch.int32, device=device)


def common_width(counts: Tensor, given: Counts, limit: int) -> int:
    """Output width: the largest count. Only counts that live on a device are read back."""
    if isinstance(given, int):
        return min(given, limit)
    if isinstance(given, Sequence):
        return min(max(given, default=0), limit)
    return int(counts.max()) if counts.numel() else 0


def power_of_two(x: int, low: int, high: int) -> int:
    """Smallest power of two >= ``x``, kept between ``low`` and ``high`` (powers of two themselves)."""
    return max(low, min(high, 1 << max(x - 1, 0).bit_length()))


def require_shape(x: Tensor, shape: tuple[int | None, ...], what: str) -> None:
    """Raise a ValueError unless ``x`` has ``shape`` (None matches any size)."""
    given = x.shape
    if len(given) != len(shape) or [t if s is None else s for s, t in zip(shape, given, strict=True)] != [*given]:
        wanted = ", ".join("*" if s is None else str(s) for s in shape)
        raise ValueError(f"{what} has shape {tuple(x.shape)}; needed: [{wanted}].")


def closing_values(dtype: torch.dtype) -> tuple[float, float]:
    """Values of "hidden" and "seen" in an attention mask of ``dtype``."""
    return (0.0, 1.0) if dtype == torch.bool else (torch.finfo(dtype).min, 0.0)


def accumulator(*tensors: Tensor | None) -> torch.dtype:
    """Type of all sums: fp32, or fp64 as soon as one of the tensors is fp64."""
    return torch.float64 if any(t is not None and t.dtype == torch.float64 for t in tensors) else torch.float32
