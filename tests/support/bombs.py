"""Files that claim more than they hold, made by hand."""

from __future__ import annotations

import struct
import zlib


def gif(side: int, frames: int, extent: tuple[int, int] = (1, 1), delay: int = 10) -> bytes:
    """GIF of a square canvas whose frames are each ``extent`` pixels large; ``delay`` in hundredths of a second."""
    block = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, 0, delay, 0, 0)
    block += b"," + struct.pack("<HHHH", 0, 0, *extent) + b"\x00\x02\x02D\x01\x00"
    head = b"GIF89a" + struct.pack("<HH", side, side) + b"\x80\x00\x00" + bytes(3) + b"\xff\xff\xff"
    return head + block * frames + b";"


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _shown(number: int, width: int, height: int) -> bytes:
    return _chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))


def png(width: int, height: int, frames: int = 0, claimed: int | None = None) -> bytes:
    """Black PNG of one bit per pixel; with ``frames`` an animated one, all but the first of one pixel."""
    out = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    if frames:
        out += _chunk(b"acTL", struct.pack(">II", frames if claimed is None else claimed, 0)) + _shown(0, width, height)
    whole = width * height <= 10**8
    out += _chunk(b"IDAT", zlib.compress(bytes((1 + (width + 7) // 8) * height) if whole else b""))
    for i in range(1, frames):
        out += _shown(2 * i - 1, 1, 1) + _chunk(b"fdAT", struct.pack(">I", 2 * i) + zlib.compress(b"\0\0"))
    return out + _chunk(b"IEND", b"")
