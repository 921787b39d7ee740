"""Pre-rendered training scenes in memory-mapped shards, written by a process of its own."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vtc.eval.scenes import IMAGE_FAMILIES, TRAIN_SEEDS, Question, Scene, make_scene
from vtc.eval.scenes.questions import MAKERS

from .places import PLACE, PLACES, place_questions
from .targets import dense_targets, present_targets
from .vocabulary import Vocabulary, split_words

HELD_OUT = 900_000_000
"""First seed of the scenes that measure progress during training; test sets lie below."""
CANDIDATES = 16
"""Questions stored per scene; a training step draws some of them."""
WEIGHTS = {"attribute": 3, "existence": 3, "counting": 3, "spatial": 4, "reading": 3, "chart": 9}


def encode_question(question: Question, vocabulary: Vocabulary, before: list[str], end: str, slot: int) -> np.ndarray:
    """Encode question and answer: int16 [slot + 1], the tokens padded with 0, then the index of the first answer token.

    Raises
    ------
    ValueError
        The question needs more than ``slot`` tokens.
    """
    ids = vocabulary.tokens
    prompt = [ids[w] for w in [*split_words(question.text), *before]]
    full = prompt + [ids[w] for w in [*split_words(question.answer), end]]
    if len(full) > slot:
        raise ValueError(f"{question.text!r} needs {len(full)} tokens, a slot has {slot}.")
    return np.array(full + [0] * (slot - len(full)) + [len(prompt)], dtype=np.int16)


def draw_questions(scene: Scene, rng: random.Random, count: int) -> list[Question]:
    """Draw ``count`` questions about a scene, families by weight; the same one may come twice."""
    found: list[Question] = []
    names = [name for name in IMAGE_FAMILIES if MAKERS[name](scene, random.Random(0)) is not None]
    while len(found) < count:
        name = rng.choices(names, [WEIGHTS[n] for n in names])[0]
        question = MAKERS[name](scene, rng)
        if question is not None:
            found.append(question)
    return found


def llava_sample(
    seed: int, vocabulary: Vocabulary, side: int, grid: int, slot: int, crowded: bool = False
) -> dict[str, np.ndarray]:
    """One training scene squeezed to ``side`` x ``side`` pixels, as the processor of tiny-llava does it."""
    scene = make_scene(seed, crowded)
    rng = random.Random(f"train/{seed}")
    dense = dense_targets(scene, grid, grid)
    asked = with_places(draw_questions(scene, rng, CANDIDATES), dense[0])
    return {
        "pixels": np.asarray(scene.image.resize((side, side), Image.Resampling.BICUBIC)),
        "dense": dense,
        "present": present_targets(scene),
        "questions": np.stack([encode_question(q, vocabulary, [], "</s>", slot) for q in asked]),
        "families": family_numbers(asked, IMAGE_FAMILIES),
    }


def with_places(asked: list[Question], objects: np.ndarray) -> list[Question]:
    """Add :data:`PLACES` questions about places, or asked ones again where the scene has fewer."""
    places = list(itertools.islice(place_questions(objects), PLACES))
    return asked + places + asked[: PLACES - len(places)]


def family_numbers(asked: list[Question], families: tuple[str, ...]) -> np.ndarray:
    """Index of each question's family: uint8 [Q]; those about places come after all others."""
    names = [*families, PLACE]
    return np.array([names.index(q.family) for q in asked], np.uint8)


def write_shard(folder: Path, name: str, samples: list[dict[str, np.ndarray]], facts: dict[str, Any]) -> None:
    """Write one shard: a folder of .npy files that appears all at once."""
    hidden = folder / f".{name}.{os.getpid()}"
    hidden.mkdir(parents=True)
    for key in samples[0]:
        np.save(hidden / f"{key}.npy", np.stack([s[key] for s in samples]))
    (hidden / "facts.json").write_text(json.dumps(facts))
    hidden.rename(folder / name)


def fill(folder: Path, sample: Callable[[int], dict[str, np.ndarray]], first: int, shards: int, size: int) -> None:
    """Render shards ``first`` to ``first + shards - 1`` of ``size`` scenes each, skipping those that exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + shards):
        name = f"shard-{number:05d}"
        if not (folder / name).exists():
            start = TRAIN_SEEDS + number * size
            write_shard(folder, name, [sample(start + i) for i in range(size)], {"start": start, "size": size})
