"""The training loop: bfloat16 weights with float32 masters, two phases, checkpoints, a log of JSON lines."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .losses import answer_loss, exact_answers, place_loss, tower_loss
from .masters import Masters
from .reader import Batch, Pool
from .recipe import Recipe


class Trainer:
    """Trains a trainee on a pool.

    Parameters
    ----------
    trainee : torch.nn.Module
        With ``vary``, ``look`` and ``forward``; its weights are made bfloat16.
    pool : Pool
    prepare : callable
        Turns uint8 pixels into what the trainee takes.
    held_out : list of Batch
    families : sequence of str
    folder : Path
        For checkpoints and the log.
    recipe : Recipe
    compiled : bool
        Whether to compile (a minute or two, then twice as fast on a CPU).
    first_pool : Pool, optional
        For the first phase, in which no questions are asked; by default ``pool`` as well.
    """

    def __init__(
        self,
        trainee: Any,
        pool: Pool,
        prepare: Callable[[torch.Tensor], torch.Tensor],
        held_out: Iterable[Batch],
        families: tuple[str, ...],
        folder: Path,
        recipe: Recipe,
        compiled: bool = True,
        first_pool: Pool | None = None,
    ) -> None:
        self.first_pool = first_pool or pool
        self.trainee, self.pool, self.prepare = trainee, pool, prepare
        self.held_out, self.families, self.folder, self.recipe = list(held_out), families, folder, recipe
        self.weights = Masters(trainee.float(), recipe)
        trainee.to(torch.bfloat16)
        self.weights.live = [p for p in trainee.parameters() if p.requires_grad]
        self.device = self.weights.live[0].device
        self.held_out = [batch.to(self.device) for batch in self.held_out]
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.look, self.answer = wrap(trainee.look), wrap(trainee.forward)
        self.rng = np.random.default_rng(recipe.seed)
        self.step, self.samples, self.elapsed, self.asked_from = 0, 0, 0.0, 0
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> bool:
        """Continue from the checkpoint in the folder, if there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return False
        state = torch.load(path, weights_only=False, map_location=self.device)
        self.weights.load(state["weights"])
        self.step, self.samples, self.elapsed = state["step"], state["samples"], state["elapsed"]
        self.asked_from = state["asked_from"]
        self.rng.bit_generator.state = state["rng"]
        return True

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {"weights": self.weights.state(), "step": self.step, "samples": self.samples}
        state |= {"elapsed": self.elapsed, "asked_from": self.asked_from, "rng": self.rng.bit_generator.state}
        hidden = self.folder / "checkpoint.new"
        torch.save(state | {"recipe": asdict(self.recipe)}, hidden)
        hidden.rename(self.folder / "checkpoint.pt")

    def log(self, **facts: Any) -> None:
        """Append one line to the log."""
        line = {"step": self.step, "samples": self.samples, "seconds": round(self.elapsed, 1), **facts}
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def progress(self) -> float:
        """Share of the run that is over, 0 to 1."""
        return min(1.0, self.elapsed / (60 * self.recipe.minutes))

    def rate(self) -> float:
        """Learning rate now."""
        recipe = self.recipe
        rising = min(1.0, (self.step - self.asked_from + 1) / recipe.warm_up)
        over = max(0.0, (self.progress - recipe.looking) / max(1e-9, 1 - recipe.looking))
        return recipe.rate * rising * max(recipe.floor, 0.5 * (1 + math.cos(math.pi * over)))

    def pixels(self, batch: Batch) -> torch.Tensor:
        """Pixels of a training batch, each picture a little brighter or darker, with more or less contrast."""
        values = self.prepare(batch.pixels)
        shape = (len(values),) + (1,) * (values.ndim - 1)
        gain = torch.from_numpy(self.rng.uniform(0.85, 1.15, shape).astype(np.float32)).to(values.device)
        shift = torch.from_numpy(self.rng.uniform(-0.12, 0.12, shape).astype(np.float32)).to(values.device)
        return (values * gain + shift).clamp(-1, 1).to(torch.bfloat16)

    def train_step(self) -> dict[str, float]:
        """One step; the losses."""
        looking = self.progress < self.recipe.looking
        batch = (self.first_pool if looking else self.pool).draw(self.rng).to(self.device)
        if not looking and not self.asked_from:
            self.asked_from = self.step
        if looking:
            _, dense, present = self.look(self.pixels(batch), *batch.extra)
            loss = tower = tower_loss(dense, present, batch)
            facts = {}
        else:
            self.trainee.vary(self.rng)
            logits, dense, present, places = self.answer(self.pixels(batch), batch.slots, *batch.extra)
            tower, answer = tower_loss(dense, present, batch), answer_loss(logits, batch)
            where = place_loss(places, batch)
            loss = answer + self.recipe.dense * (tower + where)
            facts = {"answer": float(answer.detach()), "places": float(where.detach())}
        loss.backward()
        self.weights.step(self.rate(), self.recipe.clip)
        self.step += 1
        self.samples += len(batch.pixels)
        return {**facts, "tower": float(tower.detach())}

    def evaluate(self) -> dict[str, float]:
        """Share of exact answers per family on the held-out scenes."""
        # gradients stay enabled: without them a second graph would be compiled
        right: dict[str, list[bool]] = {}
        self.trainee.vary(None)
        for batch in self.held_out:
            logits, *_ = self.answer(self.prepare(batch.pixels).to(torch.bfloat16), batch.slots, *batch.extra)
            for family, ok in zip(batch.families.flatten(), exact_answers(logits, batch).flatten(), strict=True):
                right.setdefault(self.families[family], []).append(bool(ok))
        return {family: round(float(np.mean(right[family])), 4) for family in self.families if family in right}

    def practise(self, accuracy: dict[str, float]) -> None:
        """Draw more of what is not known yet; places, which nobody tests, as much as what they serve."""
        wrong = [1 - accuracy.get(family, 0.5) for family in self.families]
        serves = [1 - accuracy[family] for family in ("spatial", "video-motion") if family in accuracy]
        self.pool.weights = np.array([*wrong, max(serves, default=0.5)]) + self.recipe.settled

    def run(self, show: Callable[[str], None] = print, tick: Callable[[float], object] | None = None) -> None:
        """Train until the time is over, saving and logging on the way.

        Parameters
        ----------
        show : callable
            Takes a line of text after every evaluation.
        tick : callable, optional
            Takes the seconds of every step, for a progress bar.
        """
        losses: dict[str, float] = {}
        if self.asked_from:
            self.practise(self.evaluate())
        clock, saved = time.perf_counter(), time.perf_counter()
        while self.progress < 1:
            for name, value in self.train_step().items():
                losses[name] = value if name not in losses else 0.95 * losses[name] + 0.05 * value
            now = time.perf_counter()
            # compiling a graph is not training: a step counts for a minute at most
            spent = min(now - clock, 60.0)
            self.elapsed += spent
            if tick is not None:
                tick(spent)
            clock = now
            if now - saved > self.recipe.save_every or self.progress >= 1:
                facts = {name: round(value, 4) for name, value in losses.items()}
                if self.asked_from:
                    accuracy = self.evaluate()
                    self.practise(accuracy)
                    facts["accuracy"] = accuracy  # type: ignore[assignment]
                self.log(rate=self.rate(), **facts)
                self.save()
                self.pool.refresh()
                self.first_pool.refresh()
                show(f"{self.step} steps, {self.samples} scenes, {self.elapsed:.0f} s: {facts}")
                saved = clock = time.perf_counter()
