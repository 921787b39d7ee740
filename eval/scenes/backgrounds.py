"""What lies behind the objects: paper, stripes, blotches, or a piece of a photograph."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from vtc.media.pictures import bundled

PHOTOS = Path(__file__).parent / "photos"
"""Folder of the photographs; its README names their sources and licences."""

Size = tuple[int, int]


@functools.cache
def _photos() -> tuple[Image.Image, ...]:
    return tuple(bundled(path) for path in sorted(PHOTOS.glob("*.jpg")))


def _tint(rng: random.Random) -> np.ndarray:
    grey = rng.randint(80, 200)
    return np.array([grey + rng.randint(-25, 25) for _ in range(3)], dtype=np.float32)


def _paper(rng: random.Random, noise: np.random.RandomState, size: Size) -> np.ndarray:
    slope = np.linspace(-25, 25, size[1], dtype=np.float32) * rng.choice([-1, 1])
    return np.broadcast_to(_tint(rng) + slope[:, None, None], (size[1], size[0], 3))


def _stripes(rng: random.Random, noise: np.random.RandomState, size: Size) -> np.ndarray:
    angle, period = rng.random() * np.pi, rng.randint(8, 40)
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)) * rng.randint(6, 22)
    return _tint(rng) + wave[..., None]


def _blotches(rng: random.Random, noise: np.random.RandomState, size: Size) -> np.ndarray:
    cells = rng.randint(3, 9)
    coarse = noise.randint(0, 256, (cells, cells, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR), dtype=np.float32)
    return _tint(rng) + (smooth - 128) * rng.uniform(0.15, 0.35)


def _photo(rng: random.Random, noise: np.random.RandomState, size: Size) -> np.ndarray:
    photo = rng.choice(_photos())
    side = rng.randint(110, 250)
    left, top = rng.randint(0, photo.width - side), rng.randint(0, photo.height - side)
    piece = photo.resize(size, Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    if rng.random() < 0.5:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    strength = rng.uniform(0.35, 0.7)
    return np.asarray(piece, dtype=np.float32) * strength + _tint(rng) * (1 - strength)


_MAKERS: tuple[Callable[[random.Random, np.random.RandomState, Size], np.ndarray], ...] = (
    _paper,
    _stripes,
    _blotches,
    _photo,
    _photo,
)


def background(rng: random.Random, size: Size) -> Image.Image:
    """Draw a background of ``size`` = (width, height) pixels: two in five are photographs, faded towards a tint."""
    noise = np.random.RandomState(rng.randint(0, 2**31 - 1))
    pixels = rng.choice(_MAKERS)(rng, noise, size)
    grain = noise.randint(-12, 13, (size[1], size[0], 1)).astype(np.float32) * rng.random()
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
