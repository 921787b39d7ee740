"""The same episodes without and with pruning, by several methods at equal budgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import vtc
from vtc.engine.handle import Handle
from vtc.eval.quality.bootstrap import interval

from .model import IMAGE_START, Policy
from .rollout import Outcome, play

METHODS = ("vla-pruner", "fastv", "divprune", "random")
KEEPS = (0.5, 0.25, 0.125)
OPTIONS: dict[str, dict[str, Any]] = {
    "fastv": {"layer": 3},  # where vla-pruner cuts: the same tokens in every layer
    "divprune": {"positions": "keep"},  # as the three others; renumbered ones the policy has never seen
}
FIRST_SEED = 10_000


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    method : str
        "none" for the policy as it is.
    keep : float
        Share of the image tokens.
    success, low, high : float
        Share of successful episodes and its 95 % bootstrap interval.
    steps : float
        Mean length of an episode.
    tokens, mean_tokens : float
        Visual tokens of a policy call after the last cut, and their mean over the decoder's layers; means over calls,
        unpruned ones at the start of an episode included.
    mflops : float
        Decoder prefill of one policy call, in MFLOPs (see ``vtc.report.FORMULA``).
    milliseconds : float
        Median time of one policy call (picture to action) of the whole batch.
    """

    method: str
    keep: float
    success: float
    low: float
    high: float
    steps: float
    tokens: float
    mean_tokens: float
    mflops: float
    milliseconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionary."""
        return asdict(self)


@contextmanager
def pruned(policy: Policy, method: str, keep: float) -> Iterator[Handle]:
    """Patch a policy's language model, for the length of a ``with`` block."""
    with vtc.patched(
        policy.language_model,
        method,
        keep,
        images=vtc.Columns(IMAGE_START, policy.image_length),
        **OPTIONS.get(method, {}),
    ) as handle:
        yield handle


def row_of(method: str, keep: float, outcome: Outcome, numbers: Outcome) -> Row:
    """Line of the table from an outcome; tokens and FLOPs are those of ``numbers``."""
    won = [episode.success for episode in outcome.episodes]
    low, high = interval(won)
    return Row(
        method,
        keep,
        float(np.mean(won)),
        low,
        high,
        float(np.mean([episode.steps for episode in outcome.episodes])),
        numbers.mean("tokens"),
        numbers.mean("mean_tokens"),
        numbers.mean("flops") / 1e6,
        1000 * float(np.median(outcome.seconds)),
    )


def compare(
    policy: Policy, episodes: int, batch: int, methods: Sequence[str], keeps: Sequence[float], seed: int = FIRST_SEED
) -> Iterator[Row]:
    """Play the same episodes unpruned and with every method at every strength; one row each, as they come."""
    seeds = range(seed, seed + episodes)
    play(policy, seeds[:1])  # the first call allocates
    with pruned(policy, "random", 1.0) as handle:  # keeps everything, but counts
        counted = play(policy, seeds[:1], 1, handle)
    yield row_of("none", 1.0, play(policy, seeds, batch), counted)
    for method in methods:
        for keep in keeps:
            with pruned(policy, method, keep) as handle:
                outcome = play(policy, seeds, batch, handle)
            yield row_of(method, keep, outcome, outcome)
