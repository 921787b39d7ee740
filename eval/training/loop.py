"""The training loop: bfloat16 weights with float32 masters, two phases, checkpoints, a log of JSON lines."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .llava import cross_entropy_of_heads
from .reader import Batch, Pool


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
    warm_up : int
        Steps of rising rate, at the start of either phase.
    decay, clip : float
        Weight decay; norm to which gradients are cut.
    dense : float
        Weight of the dense targets once questions are asked.
    save_every : float
        Seconds between checkpoints, each with an evaluation.
    seed : int
    """

    minutes: float = 60.0
    looking: float = 0.2
    rate: float = 1.5e-3
    floor: float = 0.02
    warm_up: int = 60
    decay: float = 0.02
    clip: float = 1.0
    dense: float = 0.5
    save_every: float = 180.0
    seed: int = 0


class Masters:
    """Float32 copies of bfloat16 weights, which the optimiser moves."""

    def __init__(self, module: torch.nn.Module, recipe: Recipe) -> None:
        self.live = [p for p in module.parameters() if p.requires_grad]
        self.masters = [p.detach().float().clone() for p in self.live]
        flat = [p for p in self.masters if p.ndim < 2]
        wide = [p for p in self.masters if p.ndim >= 2]
        groups = [{"params": wide, "weight_decay": recipe.decay}, {"params": flat, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)

    def step(self, rate: float, clip: float) -> None:
        """Clip, move the masters, copy them to the live weights, and forget the gradients."""
        for master, live in zip(self.masters, self.live, strict=True):
            master.grad = None if live.grad is None else live.grad.float()
            live.grad = None
        torch.nn.utils.clip_grad_norm_(self.masters, clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.publish()

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters to the live weights."""
        for master, live in zip(self.masters, self.live, strict=True):
            live.copy_(master)

    def state(self) -> dict[str, Any]:
        """Masters and optimiser state, for a checkpoint."""
        return {"masters": self.masters, "optimizer": self.optimizer.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state`."""
        with torch.no_grad():
            for mine, saved in zip(self.masters, state["masters"], strict=True):
                mine.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.publish()


def answer_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross entropy of the answer tokens."""
    where = batch.answers[:, :-1]
    return functional.cross_entropy(logits[:, :-1][where].float(), batch.slots[:, 1:][where])


def exact_answers(logits: torch.Tensor, batch: Batch) -> np.ndarray:
    """Which answers are right to the last token: bool [B, Q]."""
    wrong = (logits[:, :-1].argmax(-1) != batch.slots[:, 1:]) & batch.answers[:, :-1]
    wrong = functional.pad(wrong, (0, 1)).unflatten(1, (batch.families.shape[1], -1))
    return ~wrong.any(-1).cpu().numpy()


def tower_loss(dense: torch.Tensor, present: list[torch.Tensor], batch: Batch) -> torch.Tensor:
    """Loss of the auxiliary heads."""
    loss = cross_entropy_of_heads(dense, batch.dense)
    for logits in present:
        loss = loss + functional.binary_cross_entropy_with_logits(logits.float(), batch.present) * 4
    return loss


class Trainer:
    """Trains a trainee on a pool.

    Parameters
    ----------
    trainee : torch.nn.Module
        With ``look`` and ``forward``; its weights are made bfloat16.
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
        over = max(0.0, (self.progress - recipe.looking) / (1 - recipe.looking))
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
            logits, dense, present = self.answer(self.pixels(batch), batch.slots, *batch.extra)
            tower, answer = tower_loss(dense, present, batch), answer_loss(logits, batch)
            loss = answer + self.recipe.dense * tower
            facts = {"answer": float(answer.detach())}
        loss.backward()
        self.weights.step(self.rate(), self.recipe.clip)
        self.step += 1
        self.samples += len(batch.pixels)
        return {**facts, "tower": float(tower.detach())}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Share of exact answers per family on the held-out scenes."""
        right: dict[str, list[bool]] = {}
        for batch in self.held_out:
            logits, _, _ = self.answer(self.prepare(batch.pixels).to(torch.bfloat16), batch.slots, *batch.extra)
            for family, ok in zip(batch.families.flatten(), exact_answers(logits, batch).flatten(), strict=True):
                right.setdefault(self.families[family], []).append(bool(ok))
        return {family: round(float(np.mean(right[family])), 4) for family in self.families if family in right}

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
                    facts["accuracy"] = self.evaluate()  # type: ignore[assignment]
                self.log(rate=self.rate(), **facts)
                self.save()
                self.pool.refresh()
                self.first_pool.refresh()
                show(f"{self.step} steps, {self.samples} scenes, {self.elapsed:.0f} s: {facts}")
                saved = clock = time.perf_counter()
