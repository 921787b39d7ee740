"""Painters, one per mode: they change a panel's pixels by what became of the token behind each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .fate import Fate, Mode
from .geometry import Panel, neighbours, token_boxes
from .palette import OKABE_ITO, OUTLINE, spread_colors, viridis

if TYPE_CHECKING:
    from ..core.layout import Unit

_MERGED, _DROPPED = 0.6, 0.25
_SMALLEST_FONT = 8


def paint(panel: Panel, unit: Unit, fate: Fate, mode: Mode) -> Image.Image:
    """Copy of a panel's picture with one mode painted over it."""
    canvas = np.asarray(panel.image, dtype=np.float32).copy()
    marks = _PAINTERS[mode](canvas, panel, unit, fate)
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    if marks is not None:
        marks(ImageDraw.Draw(picture))
    return picture


def line_width(panel: Panel) -> int:
    """Pixels of a line that is seen on the whole picture: 1 up to about 700 pixels, 8 at 4k."""
    return max(1, round(max(panel.image.size) / 500))


def _of_tokens(values: np.ndarray, panel: Panel, none: Any) -> np.ndarray:
    """Value of the token behind every pixel, ``none`` where there is no token."""
    return np.append(values, np.asarray(none, dtype=values.dtype))[panel.tokens]


def _dim(canvas: np.ndarray, light: np.ndarray | float) -> np.ndarray:
    """Greyer and darker; ``light`` is a number or one per pixel."""
    grey = canvas.mean(-1, keepdims=True)
    return (0.3 * canvas + 0.7 * grey) * np.asarray(light, dtype=np.float32)[..., None]


def _edge(labels: np.ndarray, width: int) -> np.ndarray:
    """Pixels within ``width`` of another label; the edge of the picture does not count."""
    padded = np.pad(labels, width, mode="edge")
    high, wide = labels.shape
    edge = np.zeros(labels.shape, dtype=bool)
    for dy, dx in ((0, width), (2 * width, width), (width, 0), (width, 2 * width)):
        edge |= labels != padded[dy : dy + high, dx : dx + wide]
    return edge


def _paint_kept(canvas: np.ndarray, panel: Panel, unit: Unit, fate: Fate) -> None:
    kept = _of_tokens(fate.kept, panel, False)
    light = np.where(_of_tokens(fate.merged, panel, False), _MERGED, _DROPPED)
    canvas[...] = np.where(kept[..., None], canvas, _dim(canvas, light))
    canvas[_edge(kept, line_width(panel)) & kept] = OUTLINE


def _paint_scores(canvas: np.ndarray, panel: Panel, unit: Unit, fate: Fate) -> None:
    ranks = _of_tokens(fate.ranks, panel, np.nan)
    grey = canvas.mean(-1, keepdims=True)
    known = np.isfinite(ranks)
    heat = 0.4 * grey + 0.6 * viridis(np.where(known, ranks, 0.0)).astype(np.float32)
    canvas[...] = np.where(known[..., None], heat, 0.6 * grey)


def _paint_groups(canvas: np.ndarray, panel: Panel, unit: Unit, fate: Fate) -> Any:
    """Groups of two and more in a colour of their own, their survivors dotted; single tokens stay as they are."""
    assert fate.groups is not None
    groups = fate.groups
    sizes = np.bincount(groups[groups >= 0], minlength=int(groups.max(initial=-1)) + 1)
    shared = (groups >= 0) & (sizes[np.maximum(groups, 0)] > 1) if len(sizes) else np.zeros(len(groups), dtype=bool)
    pairs = [(int(groups[a]), int(groups[b])) for a, b in neighbours(unit)]
    chosen = spread_colors(groups[shared], pairs)
    tint = np.zeros((len(groups) + 1, 3), dtype=np.float32)
    for token in np.flatnonzero(shared):
        tint[token] = OKABE_ITO[chosen[int(groups[token])]]
    coloured = _of_tokens(shared, panel, False)[..., None]
    alone = _of_tokens(fate.kept & ~shared, panel, False)[..., None]
    mixed = 0.5 * canvas + 0.5 * tint[panel.tokens]
    canvas[...] = np.where(coloured, mixed, np.where(alone, canvas, _dim(canvas, _DROPPED)))
    canvas[_edge(_of_tokens(groups, panel, -1), line_width(panel)) & coloured[..., 0]] = (255, 255, 255)

    def dots(draw: ImageDraw.ImageDraw) -> None:
        for token, (left, top, right, bottom) in token_boxes(panel, unit):
            if fate.kept[token] and shared[token]:
                radius = max(2.0, min(right - left, bottom - top) / 6)
                x, y = (left + right) / 2, (top + bottom) / 2
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), "white", "black", line_width(panel))

    return dots


def _paint_order(canvas: np.ndarray, panel: Panel, unit: Unit, fate: Fate) -> Any:
    """Kept tokens from yellow (first) to violet (last), numbered where the cells are large enough."""
    order = fate.order
    last = max(int(order.max(initial=1)) - 1, 1)
    turn = _of_tokens(order, panel, 0)
    tint = viridis(1 - (turn - 1) / last).astype(np.float32)
    kept = _of_tokens(fate.kept, panel, False)[..., None]
    ordered = (turn > 0)[..., None]
    painted = np.where(ordered, 0.45 * canvas + 0.55 * tint, canvas)
    canvas[...] = np.where(kept, painted, _dim(canvas, _DROPPED))

    def numbers(draw: ImageDraw.ImageDraw) -> None:
        for token, (left, top, right, bottom) in token_boxes(panel, unit):
            text = str(order[token]) if order[token] else ""
            size = int(min((bottom - top) * 0.6, (right - left) * 1.4 / max(len(text), 1)))
            if text and size >= _SMALLEST_FONT:
                font, middle = ImageFont.load_default(size), ((left + right) / 2, (top + bottom) / 2)
                draw.text(middle, text, "white", font, "mm", stroke_width=max(1, size // 10), stroke_fill="black")

    return numbers


_PAINTERS: dict[Mode, Any] = {
    "kept": _paint_kept,
    "scores": _paint_scores,
    "groups": _paint_groups,
    "order": _paint_order,
}
