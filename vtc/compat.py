"""Facts about transformers versions, in one place, each with the reason and the time when it can go."""

from __future__ import annotations

import functools
import os
from importlib.metadata import version
from typing import Any

FLOOR = "5.5"
"""Oldest transformers the engine runs on: caches report mask sizes per layer, no ``cache_position`` (since 5.5)."""

TESTED = "5.24"
"""Newest transformers the matrix of tests has run on."""


GEMMA4 = "5.23"
"""First transformers Gemma 4 has run on: 5.5 expects other pixel positions. Can go when :data:`FLOOR` gets there."""


def parse(text: str) -> tuple[int, ...]:
    """First two numbers of a version string."""
    numbers = []
    for part in text.split(".")[:2]:
        digits = "".join(c for c in part if c.isdigit())
        numbers.append(int(digits or 0))
    return tuple(numbers)


@functools.cache
def check_transformers() -> str:
    """Version of transformers.

    Raises
    ------
    ImportError
        Below :data:`FLOOR`, or a newer major version than :data:`TESTED` unless ``VTC_ALLOW_UNTESTED=1``.
    """
    found = version("transformers")
    if parse(found) < parse(FLOOR):
        raise ImportError(f"vtc needs transformers >= {FLOOR}, found {found}: pip install -U transformers")
    if parse(found)[0] > parse(TESTED)[0] and os.environ.get("VTC_ALLOW_UNTESTED") != "1":
        raise ImportError(
            f"transformers {found} is a newer major version than the tested {TESTED}; "
            "set VTC_ALLOW_UNTESTED=1 to try it."
        )
    return found


def window_index(tower: Any, grid_thw: Any) -> Any:
    """Window order of a Qwen2.5-VL tower: index of merged tokens.

    The function moved out of the tower between 5.5 and 5.23; the first branch can go when :data:`FLOOR` is 5.23.
    """
    if hasattr(tower, "get_window_index"):
        return tower.get_window_index(grid_thw)[0]
    from transformers.vision_utils import get_vision_window_index

    sizes = dict(window_size=tower.window_size, patch_size=tower.patch_size)
    return get_vision_window_index(grid_thw, spatial_merge_size=tower.spatial_merge_size, **sizes)[0]


def require_torchvision() -> None:
    """Raise an ImportError that says what to do when torchvision is missing.

    The video processor of Qwen2.5-VL needs it.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The processor of Qwen2.5-VL needs torchvision: install it with `pip install torchvision`."
        ) from error
