"""Dense auxiliary targets: what lies under each image token, and what the whole picture shows."""

from __future__ import annotations

import string

import numpy as np

from vtc.eval.scenes import COLORS, SHAPES, WORDS, Scene, SceneObject, Text
from vtc.eval.scenes.drawing import font, text_size

CHARACTERS = string.ascii_lowercase + string.digits
HEADS: tuple[tuple[str, int], ...] = (
    ("object", 1 + len(SHAPES) * len(COLORS) + len(COLORS)),
    ("character", 1 + len(CHARACTERS)),
    ("word", 1 + len(WORDS)),
    ("tens", 11),
    ("ones", 11),
    ("bar", 10),
)
"""Names and class counts of the dense targets; class 0 is "nothing here"."""
PRESENT = len(SHAPES) * len(COLORS) + len(COLORS) + len(WORDS) + 20
"""Length of the multi-label target of the whole picture."""


def pair_index(item: SceneObject) -> int:
    """Number of an object's shape and colour, from 0."""
    return SHAPES.index(item.shape) * len(COLORS) + list(COLORS).index(item.color)


class _Grid:
    """Image tokens laid over a picture; masks of the tokens whose centres lie in a region."""

    def __init__(self, size: tuple[int, int], rows: int, columns: int) -> None:
        self.x = (np.arange(columns) + 0.5)[None, :] * (size[0] / columns)
        self.y = (np.arange(rows) + 0.5)[:, None] * (size[1] / rows)

    def box(self, left: float, top: float, right: float, bottom: float) -> np.ndarray:
        return (self.x >= left) & (self.x <= right) & (self.y >= top) & (self.y <= bottom)


def _mark_text(targets: np.ndarray, grid: _Grid, item: Text) -> None:
    width, _ = text_size(item.text, item.size)
    half = item.size * 0.5
    left, top, bottom = item.x - width / 2, item.y - half, item.y + half
    whole = grid.box(left - 4, top, left + width + 4, bottom)
    if item.is_number:
        targets[3][whole] = 1 + int(item.text[0])
        targets[4][whole] = 1 + int(item.text[1])
    else:
        targets[2][whole] = 1 + WORDS.index(item.text)
    for i, character in enumerate(item.text):
        start = font(item.size).getlength(item.text[:i])
        end = font(item.size).getlength(item.text[: i + 1])
        targets[1][grid.box(left + start, top, left + end, bottom)] = 1 + CHARACTERS.index(character)


def dense_objects(objects: tuple[SceneObject, ...], size: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """Classes of the image tokens where there are objects only: uint8 [len(HEADS), rows, columns]."""
    targets = np.zeros((len(HEADS), rows, columns), np.uint8)
    grid = _Grid(size, rows, columns)
    for item in objects:
        reach = item.radius * 0.95
        targets[0][grid.box(item.x - reach, item.y - reach, item.x + reach, item.y + reach)] = 1 + pair_index(item)
    return targets


def dense_targets(scene: Scene, rows: int, columns: int) -> np.ndarray:
    """Classes of the image tokens: uint8 [len(HEADS), rows, columns]."""
    targets = dense_objects(scene.objects, scene.image.size, rows, columns)
    grid = _Grid(scene.image.size, rows, columns)
    for bar in scene.bars:
        left, top, right, bottom = bar.box
        # a low bar may hold no token's centre: widen it by half a token
        mask = grid.box(left - 2, top - 6, right + 2, bottom + 4)
        targets[0][mask] = 1 + len(SHAPES) * len(COLORS) + list(COLORS).index(bar.color)
        targets[5][mask] = bar.value
    for text in scene.texts:
        _mark_text(targets, grid, text)
    return targets


def present_targets(scene: Scene) -> np.ndarray:
    """What the picture shows, multi-label: uint8 [PRESENT] (objects, bar colours, words, two digits)."""
    found = np.zeros(PRESENT, np.uint8)
    pairs = len(SHAPES) * len(COLORS)
    found[[pair_index(item) for item in scene.objects]] = 1
    found[[pairs + list(COLORS).index(bar.color) for bar in scene.bars]] = 1
    start = pairs + len(COLORS)
    for text in scene.texts:
        if text.is_number:
            digits = start + len(WORDS) + np.array([int(text.text[0]), 10 + int(text.text[1])])
            found[digits] = 1
        else:
            found[start + WORDS.index(text.text)] = 1
    return found
