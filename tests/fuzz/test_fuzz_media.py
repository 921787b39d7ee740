"""Odd and damaged pictures and films: frames of the right size or one ValueError, within bounds of time and memory."""

from __future__ import annotations

import io
import random
import resource
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtc.media import Film, Limits, Spread, read_film, read_media, read_picture

from support import bombs, moving

SECONDS = 10
LIMITS = Limits(pixels=2_000_000, work=50_000_000, returned=1 << 26, memory=1 << 30, seconds=20, length=600)
SIDE = 64
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
STILL = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB"),
    "TIFF": MODES,
    "PPM": ("1", "L", "RGB", "I;16", "F"),
}
MOVING = ("GIF", "PNG", "WEBP")
FILMS = {"mp4": "libx264", "mkv": "libx264", "avi": "mpeg4", "webm": "libvpx", "mov": "mpeg4", "flv": "flv1"}


def image(rng: random.Random, mode: str, size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(rng.randrange(2**32))
    if mode == "I;16":
        return Image.fromarray(noise.integers(0, 1 << 16, size[::-1], dtype=np.uint16))
    if mode == "I":
        return Image.fromarray(noise.integers(0, rng.choice((256, 1 << 16)), size[::-1], dtype=np.int32))
    if mode == "F":
        return Image.fromarray(noise.random(size[::-1], dtype=np.float32) * rng.choice((1, 255, 65535)))
    return Image.fromarray(noise.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).convert(mode)


def size_of(rng: random.Random) -> tuple[int, int]:
    return rng.choice(((1, 1), (1, 300), (300, 1), (rng.randint(1, 200), rng.randint(1, 200))))


def still(rng: random.Random) -> tuple[bytes, tuple[int, int]]:
    kind = rng.choice(list(STILL))
    mode, size, out = rng.choice(STILL[kind]), size_of(rng), io.BytesIO()
    image(rng, mode, size).save(out, kind)
    return out.getvalue(), size


def animation(rng: random.Random) -> tuple[bytes, tuple[int, int]]:
    size, out = (rng.randint(1, 120), rng.randint(1, 120)), io.BytesIO()
    mode = rng.choice(("RGB", "RGBA", "P"))
    first, *others = (image(rng, mode, size) for _ in range(rng.randint(2, 6)))
    first.save(out, rng.choice(MOVING), save_all=True, append_images=others, duration=rng.choice((0, 20, 500)))
    return out.getvalue(), size


@cache
def _written(folder: Path, ending: str, frames: int, size: tuple[int, int]) -> bytes:
    return moving.write(folder / f"written.{ending}", frames, size=size, codec=FILMS[ending]).read_bytes()


def film(rng: random.Random, folder: Path) -> tuple[bytes, tuple[int, int]]:
    size = rng.choice(((48, 64), (96, 32)))
    return _written(folder, rng.choice(list(FILMS)), rng.choice((2, 12)), size), size[::-1]


def claim(rng: random.Random) -> tuple[bytes, None]:
    side = int(10 ** rng.uniform(0, 4.8))
    if rng.random() < 0.5:
        return bombs.gif(side, rng.choice((1, 9, 300)), (rng.randint(1, 65535), rng.randint(1, 65535))), None
    frames = rng.choice((0, 2, 9))
    return bombs.png(side, rng.randint(1, 60000), frames, rng.choice((None, 0, 2**31 - 1))), None


def cut(rng: random.Random, data: bytearray) -> bytearray:
    return data[: rng.randrange(1, len(data))] if len(data) > 1 else data


def flip(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return data


def head(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(min(len(data), 200))] = rng.choice((0, 1, 127, 128, 255))
    return data


def splice(rng: random.Random, data: bytearray) -> bytearray:
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:b] + data[a:]


def blank(rng: random.Random, data: bytearray) -> bytearray:
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    data[a:b] = rng.choice((b"\0", b"\xff")) * (b - a)
    return data


DAMAGES: tuple[Callable[[random.Random, bytearray], bytearray], ...] = (cut, flip, head, splice, blank)


def made(rng: random.Random, folder: Path) -> tuple[Path, tuple[int, int] | None]:
    """A file, and the size of its frames where they must be read."""
    maker = rng.choice((still, still, animation, lambda r: film(r, folder), lambda r: film(r, folder), claim))
    data, size = maker(rng)
    if size is None or rng.random() < 0.7:
        data, size = bytes(rng.choice(DAMAGES)(rng, bytearray(data))), None
    path = folder / f"file.{rng.choice(('png', 'mp4', 'gif', 'xyz', 'jpg'))}"
    path.write_bytes(data)
    return path, size


def largest_child() -> int:
    """Peak resident KiB over every child of this process so far: those of earlier tests are among them."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_frames_or_one_error(seeds, tmp_path):
    before, read, refused = largest_child(), 0, 0
    for seed in seeds:
        rng = random.Random(seed)
        path, size = made(rng, tmp_path)
        start = time.monotonic()
        try:
            found = read_media(path, Spread(rng.choice((1, 4, 40))), SIDE, LIMITS, LIMITS)
        except ValueError as error:
            assert size is None, f"a whole file was refused: {error}"
            assert path.name in str(error) and "\n" not in str(error)
            refused += 1
        else:
            frames = found.frames if isinstance(found, Film) else [found]
            assert frames and {frame.mode for frame in frames} == {"RGB"}
            assert max(frames[0].size) <= SIDE and {frame.size for frame in frames} == {frames[0].size}
            if size is not None:
                expected = Image.new("L", size)
                expected.thumbnail((SIDE, SIDE))
                assert frames[0].size == expected.size
            read += 1
        assert time.monotonic() - start < LIMITS.seconds + 10
    assert read + refused > 0
    # a process that starts counts the pages of this one at first
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert largest_child() <= max(before, own, LIMITS.memory // 1024)
    print(f"{read} read, {refused} refused")


@pytest.mark.parametrize("reader", [read_picture, read_film])
def test_the_wrong_reader(seeds, tmp_path, reader):
    seeds.seconds /= 4
    for seed in seeds:
        path, _ = made(random.Random(seed), tmp_path)
        try:
            found = reader(path, limits=LIMITS)
        except ValueError as error:
            assert path.name in str(error)
        else:
            frames = found.frames if isinstance(found, Film) else [found]
            assert {frame.mode for frame in frames} == {"RGB"}
