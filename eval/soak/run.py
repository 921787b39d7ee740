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

from .kinds import KEEPS, KINDS
from .world import Broken, Refused, World, plain

MODELS = ("llava-clip", "qwen2_5_vl")
GROWTH = 1.1  # share of resident memory that the second half may end with


@dataclass
class Soak:
    """Figures of one run.

    Attributes
    ----------
    seconds : float
    seed : int
    equal, refused, broken, wrong : Counter
        Answers by kind of call, and calls that were ended on purpose.
    methods : Counter
        Calls by method.
    memory : list of (int, float)
        Answers so far, and resident MiB, at every quarter.
    faults : list of str
        What was wrong, the first hundred.
    """

    seconds: float
    seed: int
    equal: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
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
    threads: int = 3,
    calls: int | None = None,
) -> Soak:
    """Run mixed calls.

    Parameters
    ----------
    seconds : float
        How long, the answers that are computed beforehand not counted.
    seed : int
    models : sequence of str
        Names of tiny models.
    methods : sequence of str, optional
        All of vtc's by default.
    threads : int
        How many call at once where several do.
    calls : int, optional
        Stop after so many calls, however little time that took.

    Returns
    -------
    Soak
    """
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # of right padding, which some prompts have on purpose
    rng, result = random.Random(seed), Soak(seconds, seed)
    worlds = [World(name, threads) for name in models]
    for world, other in zip(worlds, [*worlds[1:], worlds[0]], strict=True):
        world.other = other
        world.prepare(methods or vtc.list_methods(), KEEPS)
    end, quarter, done = time.monotonic() + seconds, 0, 0
    while (now := time.monotonic()) < end and done != calls:
        done += 1
        if now >= end - seconds * (1 - quarter / 4):
            result.memory.append((result.equal.total(), resident()))
            quarter += 1
        world, kind = rng.choice(worlds), rng.choice(list(KINDS))
        _one(result, world, kind, rng.choice(world.methods), rng)
    result.memory.append((result.equal.total(), resident()))
    _judge(result)
    return result


def _judge(result: Soak) -> None:
    """A leak is what still grows in the second half, when all models, kernels and expected answers are there."""
    half, end = result.memory[len(result.memory) // 2][1], result.memory[-1][1]
    if end > GROWTH * half:
        result.faults.append(f"memory grew from {half:.0f} to {end:.0f} MiB in the second half")


def _one(result: Soak, world: World, kind: str, method: str, rng: random.Random) -> None:
    handle = world.patch(method)
    label = f"{method}, {world.name}"
    try:
        for found in KINDS[kind](world, handle, method, rng):
            if isinstance(found, Refused):
                result.refused[kind] += 1
            elif isinstance(found, Broken):
                result.broken[kind] += 1
            elif any(found[0].equals(one) for one in found[1]):
                result.equal[kind] += 1
            else:
                result.note(kind, f"{label}: another answer than alone")
        result.methods[method] += 1
    except Exception as error:  # noqa: BLE001 - whatever is no answer is counted
        result.note(kind, f"{label}: {type(error).__name__}: {error}")
    finally:
        plain(world.model)
