"""Turn ``keep`` into numbers of tokens."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from .fields import fit
from .words import kind, shown

Keep: TypeAlias = int | float
MOST_HINTED = 1_000_000
"""A larger float was hardly meant as a number of tokens."""


def check_keep(keep: Keep, name: str = "keep") -> Keep:
    """Validate a strength.

    Parameters
    ----------
    keep : float or int
        Float in (0, 1]: share of each image's tokens. Int >= 1: tokens per image.
    name : str
        How the user called the value, for the message.

    Returns
    -------
    float or int
        The value as a Python number.

    Raises
    ------
    TypeError
        Not a number (or a bool).
    ValueError
        A number outside the allowed range.
    """
    if isinstance(keep, bool) or not isinstance(keep, numbers.Real):
        raise TypeError(
            f"{name}={shown(keep)} is {kind(keep)}; pass a float in (0, 1] (share of each image's tokens) "
            "or an int >= 1 (tokens per image)."
        )
    if isinstance(keep, numbers.Integral):
        count = int(fit(name, keep, int))
        if count < 1:
            raise ValueError(
                f"{name}={count} is not allowed: an int is a number of tokens per image and must be >= 1; "
                "for a share pass a float in (0, 1]."
            )
        return count
    try:
        share = float(keep)
    except OverflowError:  # a fraction beyond every float
        share = math.inf
    if not 0.0 < share <= 1.0:
        hint = ""
        if 1 < share <= MOST_HINTED:
            hint = f" For {share:g} tokens per image pass {name}={int(share)}"
            hint += f"; for {share:g} % pass {name}={share / 100:g}." if share <= 100 else "."
        raise ValueError(f"{name}={share!r} is not allowed: a float is a share and must lie in (0, 1].{hint}")
    return share


def keep_count(keep: Keep, n: int) -> int:
    """Tokens kept out of ``n``: ``round(keep * n)`` (half to even, at least 1), or ``min(keep, n)`` for a count.

    Zero tokens stay zero.
    """
    if n <= 0:
        return 0
    if isinstance(keep, int):
        return min(keep, n)
    return min(n, max(1, round(keep * n)))


def split_evenly(total: int, sizes: Sequence[int]) -> list[int]:
    """Share a count between groups: ``floor(total / len)`` each, the remainder to the first, never above their size.

    What a full group cannot take goes to the next groups with room, so that ``sum(result) == min(total, sum(sizes))``.
    """
    shares = [0] * len(sizes)
    left = min(total, sum(sizes))
    while left > 0:
        open_groups = [i for i, size in enumerate(sizes) if shares[i] < size]
        base, extra = divmod(left, len(open_groups))
        for rank, i in enumerate(open_groups):
            take = min(base + (rank < extra), sizes[i] - shares[i])
            shares[i] += take
            left -= take
    return shares


def share_out(total: int, weights: Tensor, sizes: Tensor) -> Tensor:
    """Whole shares of ``total`` in proportion to ``weights``, none above its size, that add up exactly.

    Parameters
    ----------
    total : int
        At most the sum of ``sizes``.
    weights : Tensor [T], positive
    sizes : LongTensor [T]

    Returns
    -------
    LongTensor [T], CPU
    """
    weights, sizes = weights.double().cpu(), sizes.cpu()
    shares = torch.zeros_like(weights)
    free = torch.ones_like(sizes, dtype=torch.bool)
    while bool(free.any()):
        shares[free] = (total - float(sizes[~free].sum())) * weights[free] / weights[free].sum()
        over = free & (shares > sizes)
        if not bool(over.any()):
            break
        shares[over] = sizes[over].double()
        free &= ~over
    whole = torch.minimum((shares + 1e-9).floor().long(), sizes)
    order = (whole - shares).masked_fill(whole >= sizes, torch.inf).sort(stable=True).indices
    whole[order[: total - int(whole.sum())]] += 1
    return whole
