"""Pictures with one bright spot, and whether a drawing shows it where it is."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from vtc.viz import overlay


def record(unit, token):
    kept = torch.tensor([token])
    return SimpleNamespace(unit=unit, before=unit.length, after=1, kept=kept, scores=None, groups=None)


def spotted(size, where, mode="RGB"):
    """Black picture with one white spot around ``where`` (fractions of width and height)."""
    image = Image.new("L", size)
    x, y = round(where[0] * size[0]), round(where[1] * size[1])
    image.paste(255, (x - 4, y - 4, x + 4, y + 4))
    return image.convert(mode)


def spot_is_kept(image, unit, token, panel=0):
    """Whether the spot lies in the outlined cell, and nothing else of the picture is undimmed."""
    shown = np.asarray(overlay(image, record(unit, token), legend=False)).astype(int)
    factor = -(-336 // max(image.size))
    width = image.width * factor
    shown = shown[: image.height * factor, panel * (width + 6) : panel * (width + 6) + width]
    outline = (shown == (253, 231, 37)).all(-1)
    bright = (shown == 255).all(-1)
    spot = np.asarray(image.convert("L").resize((width, image.height * factor), Image.Resampling.NEAREST)) > 128
    ys, xs = np.nonzero(spot)
    return outline.any() and bool((bright | outline)[int(ys.mean()), int(xs.mean())])
