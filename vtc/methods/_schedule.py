"""Schedules of shares over several cuts inside the language model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.budget import Keep
from ..core.stage import View
from ..core.words import shown
from .base import Method
from .scorer import InsideLLM


@dataclass(kw_only=True)
class Scheduled(InsideLLM):
    """Cuts that leave given shares of what entered; ``keep`` is the last of them and bends the others."""

    @property
    @abstractmethod
    def shares(self) -> Sequence[float]:
        """Shares of the original tokens, before ``keep`` bends them."""

    def count(self, n: int, number: int, images: int = 1) -> int:
        """Tokens left of ``n`` of so many images after cut ``number`` of the schedule (from 0); one at least."""
        if isinstance(self.keep, int) and number == len(self.shares) - 1:
            return min(n, self.keep * images)
        return max(1, int(n * scaled_shares(self.shares, self.keep, n, images)[number]))

    def left(self, view: View, number: int) -> int:
        """Tokens of a view that are left behind a cut."""
        n, images = entered(view, self, self.scope)
        return self.count(n, number, images)


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


def check_schedule(shares: tuple[float, ...], cuts: tuple[int, ...], sums: tuple[int, ...]) -> None:
    """Raise a ValueError unless shares fall, cuts grow, one per share, and accumulation starts by the first cut."""
    falls = all(a >= b for a, b in zip(shares, shares[1:], strict=False))
    if not shares or not falls or not all(0.0 < r <= 1.0 for r in shares):
        raise ValueError(f"ratios={shown(shares)} is not allowed: pass shares in (0, 1] that do not grow.")
    if len(cuts) != len(shares) or list(cuts) != sorted(set(cuts)) or min(cuts) < 1:
        raise ValueError(
            f"prune_layers={shown(cuts)} is not allowed: pass {len(shares)} growing numbers >= 1, one per share of "
            f"ratios={shown(shares)}."
        )
    if not sums or min(sums) < 1 or min(sums) > min(cuts):
        raise ValueError(
            f"accumulate_layers={shown(sums)} is not allowed: pass numbers >= 1, "
            f"the first at or before the first cut ({cuts[0]}, of prune_layers)."
        )
