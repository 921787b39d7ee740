"""The loop: a random kind of call on a random model with a random method, until the time is over."""

from __future__ import annotations

import gc
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

import vtc

from .kinds import KINDS
from .world import World, plain

MODELS = ("llava-clip", "qwen2_5_vl")


@dataclass
class Soak:
    """Figures of one run.

    Attributes
    ----------
    seconds : float
    seed : int
    equal, wrong : Counter
        Answers by kind of call.
    memory : list of (int, float)
        Answers so far, and resident MiB, at every quarter.
    faults : list of str
        What was wrong, the first hundred.
    """

    seconds: float
    seed: int
    equal: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    memory: list[tuple[int, float]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def note(self, kind: str, fault: str) -> None:
        """Count one wrong answer."""
        self.wrong[kind] += 1
        if len(self.faults) < 100:
            self.faults.append(f"{kind}: {fault}")


def resident() -> float:
    """Resident memory of this process in MiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(
    seconds: float,
    seed: int = 0,
    models: Sequence[str] = MODELS,
    methods: Sequence[str] | None = None,
    calls: int | None = None,
) -> Soak:
    """Run mixed calls.

    Parameters
    ----------
    seconds : float
        How long, answers that are computed beforehand not counted.
    seed : int
    models : sequence of str
        Names of tiny models.
    methods : sequence of str, optional
        All of vtc's by default.
    calls : int, optional
        Stop after so many calls, however little time that took.

    Returns
    -------
    Soak
    """
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # of right padding, which some prompts have on purpose
    rng, result = random.Random(seed), Soak(seconds, seed)
    worlds = [World(name) for name in models]
    end, quarter, done = time.monotonic() + seconds, 0, 0
    while (now := time.monotonic()) < end and done != calls:
        done += 1
        if now >= end - seconds * (1 - quarter / 4):
            result.memory.append((result.equal.total(), resident()))
            quarter += 1
        world, kind = rng.choice(worlds), rng.choice(list(KINDS))
        method = rng.choice(list(methods or vtc.list_methods()))
        _one(result, world, kind, method, rng)
    result.memory.append((result.equal.total(), resident()))
    return result


def _one(result: Soak, world: World, kind: str, method: str, rng: random.Random) -> None:
    handle = world.patch(method)
    label = f"{kind} ({method}, {world.name})"
    try:
        for answer, allowed in KINDS[kind](world, handle, method, rng):
            if any(answer.equals(one) for one in allowed):
                result.equal[kind] += 1
            else:
                result.note(kind, f"{label}: another answer than alone")
        result.methods[method] += 1
    except Exception as error:  # noqa: BLE001 - whatever is no answer is counted
        result.note(kind, f"{label}: {type(error).__name__}: {error}")
    finally:
        plain(world.model)
