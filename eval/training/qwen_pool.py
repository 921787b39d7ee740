"""Training samples of tiny-qwen2_5-vl: images and videos on one canvas of 10 x 10 tokens.

Four windows of 5 x 5 tokens make the canvas. An image fills it from the top left corner, what it leaves is masked; a
video of eight frames fills each window with two frames. One shape for everything means one compiled graph.
"""

from __future__ import annotations

import random

import numpy as np

from vtc.eval.scenes import IMAGE_FAMILIES, Question, Scene, make_scene
from vtc.eval.scenes.video import FRAMES, Video, make_video
from vtc.eval.scenes.video_questions import VIDEO_FAMILIES, VIDEO_MAKERS

from .places import PLACES
from .pool import CANDIDATES, draw_questions, encode_question, family_numbers, with_places
from .reader import OUTSIDE, WINDOW
from .targets import HEADS, dense_objects, dense_targets
from .vocabulary import QWEN

CELL = 20
"""Pixels per token and side."""
SLOT = 18
"""Tokens of one question with its answer, padded."""
QWEN_FAMILIES = (*IMAGE_FAMILIES, *VIDEO_FAMILIES)
BEFORE = ["<|im_end|>", "<|im_start|>", "assistant"]


def _windows(canvas: np.ndarray) -> np.ndarray:
    """Cut a canvas [200, 200, C] into its windows [4, 100, 100, C]."""
    side = WINDOW * CELL
    return canvas.reshape(2, side, 2, side, -1).swapaxes(1, 2).reshape(4, side, side, -1)


def image_sample(scene: Scene, asked: list[Question]) -> dict[str, np.ndarray]:
    """Lay an image on the canvas."""
    pixels = np.asarray(scene.image)
    rows, columns = pixels.shape[0] // CELL, pixels.shape[1] // CELL
    canvas = np.full((2 * WINDOW * CELL, 2 * WINDOW * CELL, 3), 128, np.uint8)
    canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
    dense = np.full((len(HEADS), 2 * WINDOW, 2 * WINDOW), OUTSIDE, np.uint8)
    dense[:, :rows, :columns] = found = dense_targets(scene, rows, columns)
    return {
        "pixels": np.repeat(_windows(canvas)[:, None], 2, axis=1),
        "dense": dense.reshape(len(HEADS), -1),
        "kind": np.array([rows, columns], np.uint8),
        **_encoded(with_places(asked, found[0])),
    }


def video_sample(video: Video, asked: list[Question]) -> dict[str, np.ndarray]:
    """Lay a video on the canvas, two frames per window."""
    pixels = np.stack([np.asarray(frame) for frame in video.frames])
    dense = np.zeros((len(HEADS), FRAMES // 2, WINDOW, WINDOW), np.uint8)
    for i in range(FRAMES // 2):
        seen = [item for track in video.tracks for k in (2 * i, 2 * i + 1) if (item := track.at(k)) is not None]
        dense[:, i] = dense_objects(tuple(seen), video.frames[0].size, WINDOW, WINDOW)
    return {
        "pixels": pixels.reshape(4, 2, *pixels.shape[1:]),
        "dense": dense.reshape(len(HEADS), -1),
        "kind": np.zeros(2, np.uint8),
        **_encoded(asked + asked[:PLACES]),
    }


def _encoded(asked: list[Question]) -> dict[str, np.ndarray]:
    return {
        "questions": np.stack([encode_question(q, QWEN, BEFORE, "<|im_end|>", SLOT) for q in asked]),
        "families": family_numbers(asked, QWEN_FAMILIES),
        "present": np.zeros(0, np.uint8),
    }


def draw_video_questions(video: Video, rng: random.Random, count: int) -> list[Question]:
    """Draw ``count`` questions about a video, every family it admits in turn."""
    possible = [make for make in VIDEO_MAKERS.values() if make(video, rng) is not None]
    return [q for i in range(count) if (q := possible[i % len(possible)](video, rng)) is not None]


def qwen_sample(seed: int, crowded: bool = False) -> dict[str, np.ndarray]:
    """One training sample: two in five are videos."""
    rng = random.Random(f"train/{seed}")
    if rng.random() < (0.15 if crowded else 0.4):
        video = make_video(seed)
        while not video.tracks or all(make(video, random.Random(0)) is None for make in VIDEO_MAKERS.values()):
            video = make_video(seed := seed + 500_000_000)
        return video_sample(video, draw_video_questions(video, rng, CANDIDATES))
    scene = make_scene(seed, crowded)
    return image_sample(scene, draw_questions(scene, rng, CANDIDATES))
