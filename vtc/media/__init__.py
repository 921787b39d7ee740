"""Read pictures and films of anybody: known formats only, sizes checked first, decoded in a process of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .depth import as_rgb, eight_bit, upright
    from .limits import FILM, PICTURE, Limits, Spread
    from .reading import Film, read_film, read_media, read_picture

# name -> module that defines it; imported on first use: the process that decodes needs little of it
_LAZY = {
    "as_rgb": "depth",
    "eight_bit": "depth",
    "upright": "depth",
    "FILM": "limits",
    "PICTURE": "limits",
    "Limits": "limits",
    "Spread": "limits",
    "Film": "reading",
    "read_film": "reading",
    "read_media": "reading",
    "read_picture": "reading",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module 'vtc.media' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_LAZY)


__all__ = [
    "FILM",
    "PICTURE",
    "Film",
    "Limits",
    "Spread",
    "as_rgb",
    "eight_bit",
    "read_film",
    "read_media",
    "read_picture",
    "upright",
]
