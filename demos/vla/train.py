"""Train the policy of the rollout demo: ``python -m vtc.demos.vla.train --out FOLDER``.

It imitates the scripted expert on tables that are drawn as it goes, from states a clumsy expert gets into. At first the
tower learns alone, from what lies under each image token; then tasks are asked, for a while with a resting tower and a
decoder that sees a third of the image tokens, the empty ones left out first, which is twice as fast; at last all learns
from all. Time is CPU time of this process, so that a busy machine trains as well as an idle one, only later.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from vtc.eval.training.masters import Masters
from vtc.eval.training.recipe import Recipe
from vtc.files import read_json

from .experience import Lessons, School
from .model import Policy, PolicyConfig, prepare
from .trainee import Trainee, action_loss, dense_loss

LOG = "training.json"
"""Log beside the weights; ``before`` holds that of the policy the run went on from."""
SHOWN = 48
"""Image tokens the decoder sees while it learns on a part of them."""
HELD_OUT = 900_000_000
"""Seed of the tables that measure progress."""


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    options = argparse.ArgumentParser(prog="python -m vtc.demos.vla.train", description=__doc__)
    options.add_argument("--out", type=Path, required=True, help="folder for weights, configuration and log")
    options.add_argument("--start", type=Path, help="folder of an earlier policy to go on from")
    options.add_argument("--minutes", type=float, default=15.0, help="CPU minutes")
    options.add_argument("--looking", type=float, default=0.12, help="share of the time without tasks")
    options.add_argument("--sparse", type=float, default=0.6, help="share of the time until all tokens are shown")
    options.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    options.add_argument("--batch", type=int, default=16, help="pictures per step")
    options.add_argument("--tasks", type=int, default=6, help="tasks per picture")
    options.add_argument("--every", type=float, default=60.0, help="CPU seconds between two lines of the log")
    options.add_argument("--seed", type=int, default=0)
    return options


@torch.no_grad()
def adopt(policy: Policy, folder: Path) -> None:
    """Take the weights of an earlier policy, but for those of another shape."""
    mine, saved = policy.state_dict(), load_file(folder / "model.safetensors")
    for name, value in saved.items():
        if name in mine and mine[name].shape == value.shape:
            mine[name].copy_(value)


class Training:
    """One run.

    Parameters
    ----------
    recipe : Recipe
    batch, tasks : int
    sparse : float
        Share of the time until the decoder sees all image tokens.
    start : Path, optional
        Folder of an earlier policy, whose weights are taken as far as they fit.
    """

    def __init__(self, recipe: Recipe, batch: int, tasks: int, sparse: float, start: Path | None = None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.batch, self.sparse = recipe, batch, sparse
        self.before = None if start is None else read_json(start / LOG, "log of a training")
        self.policy = Policy(PolicyConfig())
        if start is not None:
            adopt(self.policy, start)
        grid = self.policy.config.grid
        self.school = School(recipe.seed, grid=grid, tasks=tasks)
        judge = School(HELD_OUT, grid=grid, tasks=tasks)
        self.held_out = [judge.draw(batch) for _ in range(4)]
        self.rng = np.random.default_rng(recipe.seed)
        self.trainee = Trainee(self.policy, tasks)
        self.weights = Masters(self.trainee, recipe)
        self.trainee.to(torch.bfloat16)
        self.step, self.asked_from = 0, 0
        self.began, self.clock = time.process_time(), time.perf_counter()

    @property
    def progress(self) -> float:
        """Share of the run that is over."""
        return (time.process_time() - self.began) / (60 * self.recipe.minutes)

    def rate(self, progress: float) -> float:
        """Learning rate: it rises at the start of both parts and falls to its floor at the end."""
        rising = min(1.0, (self.step - self.asked_from + 1) / self.recipe.warm_up)
        over = min(1.0, max(0.0, (progress - self.recipe.looking) / (1 - self.recipe.looking)))
        return self.recipe.rate * rising * max(self.recipe.floor, 0.5 * (1 + math.cos(math.pi * over)))

    def pixels(self, lessons: Lessons) -> torch.Tensor:
        """Pictures a little brighter or darker, with more or less contrast."""
        shape = (len(lessons.images), 1, 1, 1)
        gain = torch.from_numpy(self.rng.uniform(0.9, 1.1, shape).astype(np.float32))
        shift = torch.from_numpy(self.rng.uniform(-0.1, 0.1, shape).astype(np.float32))
        return (prepare(lessons.images) * gain + shift).clamp(-1, 1).to(torch.bfloat16)

    def train_step(self) -> dict[str, float]:
        """One step; its losses."""
        progress, lessons = self.progress, self.school.draw(self.batch)
        if progress < self.recipe.looking:
            _, dense = self.trainee.look(self.pixels(lessons))
            loss = dense_loss(dense, lessons)
            facts = {"dense": loss}
        else:
            self.asked_from = self.asked_from or max(1, self.step)
            sparse = progress < self.sparse
            shown = lessons.sample(self.rng, SHOWN) if sparse else None
            dense, logits, goals = self.trainee(self.pixels(lessons), lessons.slots, shown, sparse)
            seen = dense_loss(dense, lessons)
            action, goal, _ = action_loss(logits, goals, lessons)
            loss = action + self.recipe.dense * (seen + goal)
            facts = {"dense": seen, "action": action, "goal": goal}
        loss.backward()
        self.weights.step(self.rate(progress), self.recipe.clip)
        self.step += 1
        return {name: float(value.detach()) for name, value in facts.items()}

    @torch.no_grad()
    def exact(self) -> float:
        """Share of actions on held-out states that are the expert's, to the last token."""
        found = []
        for lessons in self.held_out:
            _, logits, goals = self.trainee(prepare(lessons.images).to(torch.bfloat16), lessons.slots)
            found.append(float(action_loss(logits, goals, lessons)[2]))
        return float(np.mean(found))

    def facts(self, losses: dict[str, float]) -> dict[str, Any]:
        """One line of the log; seconds are of this process, waited seconds those of the wall clock."""
        numbers: dict[str, Any] = {
            "step": self.step,
            "samples": self.step * self.batch,
            "seconds": round(time.process_time() - self.began, 1),
            "waited": round(time.perf_counter() - self.clock, 1),
            **{name: round(value, 4) for name, value in losses.items()},
        }
        return numbers | ({"exact": round(self.exact(), 4)} if self.asked_from else {})

    def run(self, out: Path, every: float) -> None:
        """Train to the end; weights and log are written on the way."""
        losses: dict[str, float] = {}
        lines, due, over = [], every, False
        while not over:
            for name, value in self.train_step().items():
                losses[name] = 0.95 * losses.get(name, value) + 0.05 * value
            over = self.progress >= 1
            if over or time.process_time() - self.began > due:
                lines.append(self.facts(losses))
                due = lines[-1]["seconds"] + every
                self.policy.save(out)
                log = {
                    "device": "CPU, one thread",
                    "recipe": vars(self.recipe),
                    "batch": self.batch,
                    "sparse": self.sparse,
                    "log": lines,
                }
                (out / LOG).write_text(json.dumps(log | {"before": self.before}, indent=1) + "\n")
                print(lines[-1], flush=True)


def main(argv: list[str] | None = None) -> None:
    """Train and save."""
    args = parser().parse_args(argv)
    torch.set_num_threads(1)
    recipe = Recipe(minutes=args.minutes, looking=args.looking, rate=args.rate, seed=args.seed)
    Training(recipe, args.batch, args.tasks, args.sparse, args.start).run(args.out, args.every)


if __name__ == "__main__":
    main()
