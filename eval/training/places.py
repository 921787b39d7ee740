"""Training questions about where an object is, which no test asks: two digits, its column and row in tenths.

Comparing two places ("left or right of") gives no signal until both can be found; naming one place does, and so does
a dense target that tells every image token its own place, early in the decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vtc.eval.scenes import COLORS, SHAPES, Question

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACES = 4
"""Such questions per scene, at most."""
PLACE = "place"
"""Name of their family."""
TENTHS = 10
"""Steps of a place per side."""
_SPREAD = 4
"""Tokens per side an object may cover; more means two objects of one name."""


def place_questions(objects: np.ndarray) -> Iterator[Question]:
    """Ask for the place of every object whose name is unique.

    Parameters
    ----------
    objects : ndarray uint8 [rows, columns]
        Class of the object under each image token, the first of :data:`vtc.eval.training.targets.HEADS`.
    """
    rows, columns = objects.shape
    names = [f"{color} {shape}" for shape in SHAPES for color in COLORS]
    for index in np.unique(objects):
        if not 0 < index <= len(names):
            continue
        y, x = np.nonzero(objects == index)
        if max(np.ptp(y), np.ptp(x)) < _SPREAD:
            tenths = [int((v.mean() + 0.5) * TENTHS / size) for v, size in ((x, columns), (y, rows))]
            yield Question(PLACE, f"value of the {names[index - 1]} ?", "".join(map(str, tenths)))


def token_places(rows: int, columns: int) -> np.ndarray:
    """Column and row of every image token in tenths of the picture: int64 [2, rows, columns]."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([((v + 0.5) * TENTHS / size).astype(np.int64) for v, size in ((x, columns), (y, rows))])
