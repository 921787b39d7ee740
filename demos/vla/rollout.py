"""Episodes of a policy in vectorised environments: row b of every batch is environment b."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from vtc.engine.handle import Handle

from .env import PickPlaceEnv
from .model import Policy
from .words import action_of, encode


@dataclass
class Episode:
    """How one episode went."""

    seed: int
    instruction: str
    success: bool = False
    steps: int = 0


@dataclass
class Outcome:
    """What came out of some episodes.

    Attributes
    ----------
    episodes : list of Episode
        In the order of their seeds.
    seconds : list of float
        Of every policy call; a call serves the whole batch.
    calls : list of dict
        Per call and per row of the batch: visual ``tokens`` after the last cut, ``mean_tokens`` over the decoder's
        layers, prefill ``flops``; empty for a policy that is not patched.
    """

    episodes: list[Episode]
    seconds: list[float] = field(default_factory=list)
    calls: list[dict[str, float]] = field(default_factory=list)

    def mean(self, name: str) -> float:
        """Mean of one of the numbers of ``calls``."""
        return float(np.mean([call[name] for call in self.calls]))


def call_numbers(handle: Handle, rows: int) -> dict[str, float]:
    """Tokens and FLOPs of the last policy call, per row."""
    report = handle.report().to_dict()
    visual = report["visual_tokens"]
    numbers = {"tokens": visual["after"], "mean_tokens": visual["mean_over_layers"], "flops": report["flops"]["after"]}
    return {name: value / rows for name, value in numbers.items()}


def act(policy: Policy, observations: dict[str, Any]) -> np.ndarray:
    """One policy call for a batch of observations: actions float32 [B, 3]."""
    text = np.stack([encode(instruction) for instruction in observations["instruction"]])
    tokens = policy.act(torch.from_numpy(observations["image"]), torch.from_numpy(text))
    return action_of(tokens.numpy())


class Slots:
    """Environments side by side, each of which takes the next episode when its own is over.

    Parameters
    ----------
    seeds : sequence of int
        One per episode.
    batch : int
        Environments; never more than episodes.
    """

    def __init__(self, seeds: Sequence[int], batch: int) -> None:
        self.batch = min(batch, len(seeds))
        self.envs = SyncVectorEnv([PickPlaceEnv] * self.batch, autoreset_mode=AutoresetMode.DISABLED)
        self.waiting = list(seeds[self.batch :])
        first = list(seeds[: self.batch])
        self.observations, _ = self.envs.reset(seed=[*first])
        self.playing: list[Episode | None] = [Episode(s, i) for s, i in zip(first, self._texts(), strict=True)]
        self.over: list[Episode] = []

    def _texts(self) -> Sequence[str]:
        return self.observations["instruction"]

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Act in all environments and start new episodes where one is over; bool [B] says where."""
        self.observations, _, ended, cut, info = self.envs.step(actions)
        fresh = ended | cut
        for row, episode in enumerate(self.playing):
            if episode is not None:
                episode.steps += 1
                episode.success = bool(info["success"][row])
                if fresh[row]:
                    self.over.append(episode)
        if fresh.any():
            self._restart(fresh)
        return fresh

    def _restart(self, fresh: np.ndarray) -> None:
        """Lay new tables; when no episode waits, one is played that does not count, so that rows stay what they are."""
        seeds: list[int | None] = [None] * self.batch
        taken: list[int | None] = [self.waiting.pop(0) if flag and self.waiting else None for flag in fresh]
        for row in np.flatnonzero(fresh):
            seeds[row] = taken[row]
        self.observations, _ = self.envs.reset(seed=seeds, options={"reset_mask": fresh})
        texts = self._texts()
        for row in np.flatnonzero(fresh):
            seed = taken[row]
            self.playing[row] = None if seed is None else Episode(seed, texts[int(row)])


def play(policy: Policy, seeds: Sequence[int], batch: int = 1, handle: Handle | None = None) -> Outcome:
    """Play one episode per seed.

    Parameters
    ----------
    policy : Policy
    seeds : sequence of int
    batch : int
        Episodes at a time.
    handle : Handle, optional
        Of the patched language model; its memory is reset wherever an episode starts.
    """
    slots = Slots(seeds, batch)
    outcome = Outcome([])
    if handle is not None:
        handle.reset()
    while any(slots.playing):
        began = time.perf_counter()
        actions = act(policy, slots.observations)
        outcome.seconds.append(time.perf_counter() - began)
        if handle is not None:
            outcome.calls.append(call_numbers(handle, slots.batch))
        fresh = slots.step(actions)
        if handle is not None and fresh.any():
            handle.reset(fresh.tolist())
    slots.envs.close()
    order = {seed: i for i, seed in enumerate(seeds)}
    outcome.episodes = sorted(slots.over, key=lambda episode: order[episode.seed])
    return outcome
