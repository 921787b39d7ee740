"""The canvas that images and videos of tiny-qwen2_5-vl share: places, positions and what is visible."""

from __future__ import annotations

import torch

from vtc.eval.scenes import SIZES

from .qwen_pool import CELL, SLOT, WINDOW

PREFIX = ("<|im_start|>", "user", "<|vision_start|>")
CANVAS = 2 * WINDOW
TOKENS = CANVAS * CANVAS
KINDS: tuple[tuple[int, int], ...] = ((0, 0), *sorted((height // CELL, width // CELL) for width, height in SIZES))
"""Rows and columns of tokens of what lies on a canvas; (0, 0) is a video."""
HIDDEN = -1e9


def kind_index(kind: torch.Tensor) -> torch.Tensor:
    """Index into :data:`KINDS` of rows and columns [B, 2]."""
    table = torch.tensor(KINDS, device=kind.device)
    return (kind[:, None] == table).all(-1).int().argmax(-1)


def canvas_places() -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column on the canvas of the tokens in window order: [100] each."""
    window, inside = torch.arange(4).repeat_interleave(WINDOW * WINDOW), torch.arange(WINDOW * WINDOW).repeat(4)
    row = window // 2 * WINDOW + inside // WINDOW
    return row, window % 2 * WINDOW + inside % WINDOW


def text_positions(kind: tuple[int, int], slots: int) -> torch.Tensor:
    """M-RoPE positions of prefix, canvas tokens in reading order, end mark and slots: [3, L]."""
    start = len(PREFIX)
    place = torch.arange(TOKENS)
    if kind == (0, 0):
        inside, extent = place % (WINDOW * WINDOW), WINDOW
        vision = torch.stack([place // (WINDOW * WINDOW), inside // WINDOW, inside % WINDOW])
    else:
        extent = max(kind)
        vision = torch.stack([torch.zeros_like(place), place // CANVAS, place % CANVAS])
    head, end = torch.arange(start), start + extent
    tail = torch.cat([torch.tensor([end]), (end + 1 + torch.arange(SLOT)).repeat(slots)])
    return torch.cat([head.expand(3, -1), start + vision, tail.expand(3, -1)], dim=1)


def visible_tokens(kind: tuple[int, int]) -> torch.Tensor:
    """Which canvas tokens, in reading order, belong to the picture: bool [100]."""
    place = torch.arange(TOKENS)
    if kind == (0, 0):
        return torch.ones(TOKENS, dtype=torch.bool)
    return (place // CANVAS < kind[0]) & (place % CANVAS < kind[1])


def prepare_patches(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels uint8 [B, 4, 2, 100, 100, 3] as the processor hands them on: [B, 400, 600] in [-1, 1]."""
    patch = CELL // 2
    split = pixels.unflatten(4, (WINDOW, 2, patch)).unflatten(3, (WINDOW, 2, patch))  # b w t gy my py gx mx px c
    ordered = split.permute(0, 1, 3, 6, 4, 7, 9, 2, 5, 8)
    return ordered.flatten(6).flatten(1, 5).float() / 127.5 - 1
