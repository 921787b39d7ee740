"""How the embedded models are trained, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    minutes : float
        Length of the run; the learning rate follows the clock, so that a slow machine ends with a small one too.
    looking : float
        Share of the time in which only the vision tower learns, from the dense targets alone.
    rate, floor : float
        Highest learning rate and the share of it left at the end.
    hidden_rate : float
        Rate of the matrices between hidden states (moved by Muon) as a multiple of that of all others (AdamW).
    warm_up : int
        Steps of rising rate, at the start of either phase.
    decay, clip : float
        Weight decay; norm to which gradients are cut.
    dense : float
        Weight of the dense targets once questions are asked.
    settled : float
        Least weight of a family that is answered rightly; one that is never has 1 more.
    save_every : float
        Seconds between checkpoints, each with an evaluation.
    seed : int
    """

    minutes: float = 60.0
    looking: float = 0.2
    rate: float = 1.5e-3
    floor: float = 0.02
    hidden_rate: float = 2.0
    warm_up: int = 60
    decay: float = 0.02
    clip: float = 1.0
    dense: float = 0.5
    settled: float = 0.15
    save_every: float = 180.0
    seed: int = 0
