"""Grey-level entropy of image patches (VFlowOpt)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .context import Option


def patch_entropy(
    pixels: Tensor,
    patch: int,
    mode: Literal["paper", "wrapped"] = "paper",
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> Tensor:
    """Entropy in bits of the 256-level grey histogram of every patch.

    Parameters
    ----------
    pixels : Tensor [B, 3, H, W]
        Normalised pixels as the processor makes them.
    patch : int
        Side of a patch in pixels; rows and columns beyond the last whole patch are ignored.
    mode : {"paper", "wrapped"}
        "paper" restores the 8-bit image and takes the mean of its channels. "wrapped" repeats the published
        code, which scales the normalised values by 255 and lets negative ones wrap around modulo 256.
    mean, std : sequence of 3 floats
        Of the processor; used by "paper".

    Returns
    -------
    Tensor [B, H // patch, W // patch], fp32
    """
    b, h, w = pixels.shape[0], pixels.shape[2] // patch, pixels.shape[3] // patch
    whole = pixels[:, :, : h * patch, : w * patch].reshape(b, 3, h, patch, w, patch)
    rows = whole.permute(0, 2, 4, 1, 3, 5).reshape(b * h * w, 3, patch * patch)
    return row_entropy(rows, mode, mean, std).reshape(b, h, w)


def row_entropy(
    pixels: Tensor,
    mode: Literal["paper", "wrapped"] = "paper",
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> Tensor:
    """Entropy in bits of the grey histogram of each row of ``[R, 3, n]`` pixels: ``[R]`` fp32."""
    pixels = pixels.detach().float()
    grey = _wrapped(pixels) if mode == "wrapped" else _restored(pixels, mean, std)
    counts = torch.zeros(len(grey), 256, device=grey.device)
    counts.scatter_add_(1, grey, torch.ones_like(grey, dtype=counts.dtype))
    p = counts / grey.shape[1]
    # 0 log 0 counts as 0
    return -(p * torch.where(p > 0, p, 1.0).log2()).sum(1)


def _wrapped(pixels: Tensor) -> Tensor:
    levels = (pixels * 255).trunc().long() % 256
    return (0.3333 * levels.sum(1).float()).round().long().clamp(0, 255)


def _restored(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shape = (1, 3, 1)
    m, s = (torch.tensor(v, device=pixels.device).reshape(shape) for v in (list(mean), list(std)))
    levels = ((pixels * s + m) * 255).clamp(0, 255).round()
    return levels.mean(1).round().long()


def entropy_shares(pixels: Tensor, option: Option, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Softmax over the rows of ``[R, 3, n]`` pixels, the patches of a partition, of their entropy: ``[R]`` fp32.

    ``option`` is the mode of :func:`patch_entropy`; None means "paper".
    """
    mode: Literal["paper", "wrapped"] = "wrapped" if option == "wrapped" else "paper"
    return torch.softmax(row_entropy(pixels, mode, mean, std), 0)
