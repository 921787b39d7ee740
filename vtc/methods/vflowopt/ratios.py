"""Budgets of VFlowOpt: three ratios over three thirds of the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ...core.budget import Keep
from ..base import Method, check_range


class Ratios(NamedTuple):
    """Shares of the visual tokens that stay before the decoder, and of those that are left at its two cuts."""

    r1: float
    r2: float
    r3: float


class Tuned(NamedTuple):
    """Released parameters of one budget: mean share over layers, t, alpha, cell side, ratios."""

    keep: float
    t: float
    alpha: float
    cell: float
    ratios: Ratios


def thirds(layers: int) -> tuple[int, int, int]:
    """Layers behind the projector's cut, the first and the second cut: the first two get ``layers // 3`` each."""
    third = layers // 3
    return third, third, layers - 2 * third


def mean_share(ratios: Ratios, layers: int) -> float:
    """Visual tokens averaged over the layers, as a share."""
    a, b, c = thirds(layers)
    return ratios.r1 * (a + ratios.r2 * b + ratios.r2 * ratios.r3 * c) / layers


def solve_last(r1: float, r2: float, budget: float, layers: int) -> float:
    """Third ratio that spends the budget exactly; outside (0, 1] when none does."""
    a, b, c = thirds(layers)
    return (layers * budget - r1 * a - r1 * r2 * b) / (c * r1 * r2)


def solve_first(budget: float, r2: float, r3: float, layers: int) -> Ratios:
    """Ratios whose mean is ``budget``: the first is solved; if it would exceed 1, the third grows, then the second."""
    a, b, c = thirds(layers)
    r1 = layers * budget / (a + r2 * (b + r3 * c))
    if r1 <= 1:
        return Ratios(r1, r2, r3)
    r3 = solve_last(1.0, r2, budget, layers)
    if r3 <= 1:
        return Ratios(1.0, r2, r3)
    return Ratios(1.0, min(1.0, (layers * budget - a) / (b + c)), 1.0)


Preset = Literal["llava-onevision-7b-50", "llava-onevision-7b-25", "llava-onevision-7b-10"]
PRESETS: dict[Preset, Tuned] = {
    "llava-onevision-7b-50": Tuned(
        0.5, 28.683047941520474, 0.0, 11.756787150848968, Ratios(0.7233201448753168, 0.748747637472693, 0.487)
    ),
    "llava-onevision-7b-25": Tuned(
        0.25,
        34.759552803070484,
        0.0,
        15.580797034937687,
        Ratios(0.2651026358526424, 0.9833433139039235, 0.8773258179532721),
    ),
    "llava-onevision-7b-10": Tuned(
        0.1, 39.26492840997221, 0.0, 17.386981849158786, Ratios(0.11661529508161146, 1.0, 0.6011)
    ),
}


@dataclass(kw_only=True)
class ThreeRatios(Method):
    """Budget over three thirds of the decoder: what enters, and what two cuts leave.

    Parameters
    ----------
    keep : float or int or None
        Share of each image's tokens, newlines included, or tokens per image: the mean over decoder layers (without
        later cuts: what enters the first). None: the preset's budget, else 0.25.
    preset : {"llava-onevision-7b-50", "llava-onevision-7b-25", "llava-onevision-7b-10"} or None
        Released parameters of ``t``, ``alpha``, ``cell`` and the ratios where those are None. None: untuned, t=5,
        alpha=0, cell=16 on a side of 27, R2=1, R3=0.6.
    r1, r2, r3 : float or None
        Ratios, all three or none; ``vtc calibrate`` finds them. They (or the preset's) hold as long as ``keep`` is
        what it was at the start; for another ``keep`` r1 is solved anew.
    """

    keep: Keep = None  # type: ignore[assignment]  # a number after __post_init__
    preset: Preset | None = None
    r1: float | None = None
    r2: float | None = None
    r3: float | None = None

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        tuned = self._tuned
        if self.keep is None:
            self.keep = tuned.keep if tuned else 0.25
        super().__post_init__()
        if tuned and self.keep != tuned.keep:
            raise ValueError(
                f"preset={self.preset!r} is the budget keep={tuned.keep:g}, and keep={self.keep!r} was "
                "passed. Leave out one of the two, or pass t, alpha and cell instead of the preset."
            )
        check_range(self, "a ratio in (0, 1]", lambda v: 0.0 < v <= 1.0, "r1", "r2", "r3")
        if len({self.r1 is None, self.r2 is None, self.r3 is None}) > 1:
            raise ValueError(f"r1={self.r1}, r2={self.r2}, r3={self.r3}: pass all three ratios or none.")
        self._start = self.keep

    @property
    def _tuned(self) -> Tuned | None:
        return PRESETS[self.preset] if self.preset else None

    def ratios(self, n: int, layers: int) -> Ratios:
        """Ratios for an image of ``n`` tokens on a decoder with ``layers`` layers to cut in (0: none)."""
        share = min(1.0, self.keep / max(1, n)) if isinstance(self.keep, int) else self.keep
        if share == 1.0:
            return Ratios(1.0, 1.0, 1.0)
        tuned = self._tuned.ratios if self._tuned else None
        if self.r1 is not None and self.r2 is not None and self.r3 is not None:
            tuned = Ratios(self.r1, self.r2, self.r3)
        if tuned and self.keep == self._start:
            return tuned
        if layers == 0:
            return Ratios(share, 1.0, 1.0)
        return solve_first(share, tuned.r2 if tuned else 1.0, tuned.r3 if tuned else 0.6, layers)

    def dropped(self, n: int, layers: int = 0) -> int:
        """Tokens d to drop of L = ``n`` before the decoder."""
        if isinstance(self.keep, int) and layers == 0:
            return n - min(self.keep, n)
        return round(n * (1 - self.ratios(n, layers).r1))

    def keep_count(self, n: int, layers: int = 0) -> int:
        """Tokens that enter the decoder; with recycling the real number differs by a few unless ``exact_budget``."""
        return max(1, n - self.dropped(n, layers)) if n > 0 else 0
