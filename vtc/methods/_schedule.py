"""Schedules of shares over several cuts inside the language model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..core.budget import Keep
from ..core.stage import View
from .base import Method


def entered(view: View, method: Method, scope: str) -> tuple[int, int]:
    """Visual tokens and images that the method's first cut of this forward saw: what its shares refer to.

    Later cuts see fewer of both: a ranking over all images of a prompt may leave one of them empty.
    """
    slot = (id(method), view.image if scope == "image" else None)
    return view.scratch.setdefault(slot, (view.n, len(view.units)))


def scaled_shares(shares: Sequence[float], keep: Keep, n: int, images: int = 1) -> list[float]:
    """Bend a schedule so that its last share becomes ``keep``: ``r ** (log keep / log r_last)``.

    The schedule's own last share leaves it as it is, 1 makes every share 1, and order is kept.

    Parameters
    ----------
    shares : sequence of float
        Shares of the original tokens in (0, 1], not increasing.
    keep : float or int
        Last share, or tokens per image at the end.
    n, images : int
        Tokens and images of the view, for counts.
    """
    last = min(1.0, keep * images / n) if isinstance(keep, int) else keep
    if last == shares[-1]:
        return list(shares)
    if shares[-1] == 1.0:
        return [last] * len(shares)
    power = math.log(last) / math.log(shares[-1])
    return [*(r**power for r in shares[:-1]), last]


def scaled_layers(layers: Sequence[int], depth: int, reference: int) -> list[int]:
    """Layer numbers of a decoder of ``reference`` layers brought to one of ``depth``: within 1 .. depth - 1."""
    return [min(max(1, round(p * depth / reference)), max(1, depth - 1)) for p in layers]
