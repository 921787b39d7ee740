"""Videos the tests write themselves: coloured shapes that move over a plain ground."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

RED, BLUE = (220, 30, 30), (30, 40, 220)


def picture(index: int, total: int, size: tuple[int, int] = (64, 96), blue_from: float = 0.5) -> np.ndarray:
    """Red square that moves from left to right; from a share of the video on, a blue one below it."""
    height, width = size
    image = np.full((height, width, 3), 200, dtype=np.uint8)
    side = height // 4
    left = (width - side) * index // max(1, total - 1)
    image[side : 2 * side, left : left + side] = RED
    if index >= blue_from * total:
        image[height - side :, width // 2 : width // 2 + side] = BLUE
    return image


def write(path: Path, total: int, fps: int = 10, size: tuple[int, int] = (64, 96), codec: str = "libx264") -> Path:
    """Write ``total`` frames; they come back nearly as they were (chroma is halved, and the codec is lossy)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "12"}
        for index in range(total):
            frame = av.VideoFrame.from_ndarray(picture(index, total, size), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path
