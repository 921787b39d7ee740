"""Random scores of frames: what counts as scores runs and gives shares that follow them, all else is one error."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import vtc

from support import tiny_families

SAMPLES = [[3, ("video", (3, 4, 8)), 2], [2, ("video", (2, 4, 8)), 5]]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


def number(rng: random.Random) -> Any:
    return rng.choice([0, 0.0, 1, 0.5, rng.random(), rng.random() * 100, 1e-30, 1e30, True])


def spoilt(rng: random.Random) -> Any:
    return rng.choice([math.nan, math.inf, -math.inf, -1, -1e-9, "1", None, [1.0], 10**400])


def vector(rng: random.Random, frames: int) -> tuple[Any, bool]:
    """Scores for a video of ``frames`` frames, and whether they are good ones."""
    count = frames if rng.random() < 0.8 else rng.randrange(frames + 3)
    values, fits = [number(rng) for _ in range(count)], count in (frames, 2 * frames, 2 * frames - 1)
    good = fits
    if values and rng.random() < 0.25:
        values[rng.randrange(count)], good = spoilt(rng), False
    form = rng.randrange(4)
    if form and all(isinstance(v, (int, float)) and abs(v) < 1e300 or v != v for v in values):
        if form == 1:
            dtype = rng.choice(DTYPES if good and max(values) < 200 else [torch.float64, torch.float16])
            held = torch.tensor([float(v) for v in values], dtype=torch.float64).to(dtype)
            sound = torch.isfinite(held.double()) & (held.double() >= 0)  # rounding makes infinities, and -0.0
            return held, fits and bool(sound.all())
        if form == 2:
            return np.array(values, dtype=rng.choice(["float32", "float64"])), good
    if rng.random() < 0.1 and values:
        return torch.ones(1, len(values)), False
    return tuple(values) if rng.random() < 0.3 else values, good


def draw(rng: random.Random, frames: list[int]) -> tuple[Any, bool]:
    """What a user may give for a batch of videos."""
    kind = rng.random()
    if kind < 0.05:
        return "uniform", True
    if kind < 0.12:
        return rng.choice(["even", "", 3, {}, {"a": 1}, object(), torch.tensor(1.0), [[]], [None]]), False
    if len(frames) == 1 and kind < 0.7:
        return vector(rng, frames[0])
    made = [vector(rng, n) for n in frames]
    if rng.random() < 0.15:
        made = made[:-1] if rng.random() < 0.5 else [*made, vector(rng, 2)]
        return [m[0] for m in made], False
    return [m[0] for m in made], all(m[1] for m in made)


def tokens(handle: Any) -> list[int]:
    return [len(log.kept) for log in handle.last.images if log.modality == "video"]


@torch.no_grad()
def outcome(model: Any, inputs: dict, given: Any, way: str) -> tuple[Any, Any]:
    """Logits and record, or the error that the whole gave; scores reach a method in three ways."""
    try:
        if way == "patch":
            with vtc.patched(model, "quota", keep=0.4, frame_scores=given) as handle:
                return model(**inputs).logits, tokens(handle)
        with vtc.patched(model, "quota", keep=0.4, frame_scores="uniform") as handle:
            with handle.frame_scores(given):
                return model(**inputs).logits, tokens(handle)
    except (ValueError, TypeError) as error:
        return error, None


def test_any_scores_act_or_are_refused(tiny_model: Callable, seeds: Iterator[int]) -> None:
    model, case, counts = tiny_model("qwen2_5_vl-video"), tiny_families.ALL["qwen2_5_vl-video"], Counter()
    for seed in seeds:
        rng = random.Random(seed)
        rows = rng.choice([1, 2])
        chosen = rng.sample(SAMPLES, rows)
        inputs = case.inputs(chosen, list(range(rows)))
        given, good = draw(rng, [sample[1][1][0] for sample in chosen])
        found, kept = outcome(model, inputs, given, rng.choice(["patch", "block"]))
        if kept is None:
            said = str(found)
            assert "\n" not in said and 30 < len(said) < 700, (seed, said)
            assert not any(word in said for word in ("dtype=", "unhashable", "object has no", "Overflow")), (seed, said)
            assert not good, (seed, given, said)
            counts["refused"] += 1
            continue
        assert good, (seed, given, "ran")
        assert torch.isfinite(found).all() and len(kept) == rows
        again = outcome(model, inputs, plain(given), "block")
        assert torch.equal(found, again[0]) and kept == again[1], (seed, given)
        counts["right"] += 1
    print(dict(counts))
    assert counts["right"]


def plain(given: Any) -> Any:
    """The same scores as lists of Python floats."""
    if isinstance(given, str):
        return given
    if isinstance(given, (torch.Tensor, np.ndarray)):
        return [float(v) for v in given]
    return [plain(v) if not isinstance(v, (int, float)) else float(v) for v in given]


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_of_scored_videos_is_each_alone(tiny_model: Callable, seeds: Iterator[int], rows: int) -> None:
    seeds.seconds = getattr(seeds, "seconds", 10) / 5
    model, case = tiny_model("qwen2_5_vl-video"), tiny_families.ALL["qwen2_5_vl-video"]
    for seed in seeds:
        rng = random.Random(seed)
        scores = [[rng.random() for _ in range(sample[1][1][0])] for sample in SAMPLES]
        both, kept = outcome(model, case.inputs(SAMPLES, [0, 1]), scores, "patch")
        alone, mine = outcome(model, case.inputs(SAMPLES[rows - 1 : rows], [rows - 1]), scores[rows - 1], "patch")
        assert kept[rows - 1] == mine[0], seed
        assert (both[rows - 1, -1] - alone[0, -1]).abs().max() < 3e-5, seed
