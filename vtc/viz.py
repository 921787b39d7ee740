"""Pictures of what a method kept: dimmed tokens or heat maps over the image, with PIL and numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from .core.layout import Unit

Mode = Literal["kept", "scores"]
Box = tuple[float, float, float, float]
Frames = Image.Image | Sequence[Image.Image]

# eleven even steps through viridis: perceptually even, and readable for all common kinds of colour blindness
_VIRIDIS = np.array(
    [
        (68, 1, 84),
        (72, 36, 117),
        (65, 68, 135),
        (53, 95, 141),
        (42, 120, 142),
        (33, 145, 140),
        (34, 168, 132),
        (68, 191, 112),
        (122, 209, 81),
        (189, 223, 38),
        (253, 231, 37),
    ],
    dtype=np.float32,
)
_OUTLINE = (253, 231, 37)
_PAPER, _INK = (24, 24, 28), (235, 235, 235)
_KEPT, _MERGED, _DROPPED = 1.0, 0.6, 0.25
_WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
_GAP = 6


@dataclass(frozen=True)
class _Panel:
    """One picture with the partitions (tiles, or one frame) drawn on it: ``(partition, box)``."""

    image: Image.Image
    parts: tuple[tuple[int, Box], ...]


def viridis(values: np.ndarray) -> np.ndarray:
    """Colours of values in [0, 1]: ``[...] -> [..., 3]``, uint8, dark violet (0) to yellow (1)."""
    place = np.clip(values, 0.0, 1.0) * (len(_VIRIDIS) - 1)
    low = np.minimum(place.astype(int), len(_VIRIDIS) - 2)
    share = (place - low)[..., None]
    return np.round(_VIRIDIS[low] * (1 - share) + _VIRIDIS[low + 1] * share).astype(np.uint8)


def seen(image: Image.Image, processor: Any) -> Image.Image:
    """Cut a picture to what a processor with a centre crop (CLIP, LLaVA 1.5) lets the model see.

    Parameters
    ----------
    image : PIL.Image.Image
    processor : transformers processor
        One without a centre crop leaves the picture as it is.
    """
    settings = getattr(processor, "image_processor", processor)
    short = (getattr(settings, "size", None) or {}).get("shortest_edge")
    if not getattr(settings, "do_center_crop", False) or not short:
        return image
    scale = min(image.size) / short
    width = min(image.width, round(settings.crop_size["width"] * scale))
    height = min(image.height, round(settings.crop_size["height"] * scale))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def overlay(image: Frames, record: Any, mode: Mode = "kept") -> Image.Image:
    """Show which tokens of an image a method kept, or how it scored them.

    Parameters
    ----------
    image : PIL.Image.Image or sequence of them
        The picture as it was given to the processor; for a video one picture per temporal patch (a single one
        is repeated).
    record : ImageRecord
        One entry of ``handle.last.images``.
    mode : {"kept", "scores"}
        ``kept`` dims dropped tokens, dims tokens merged into others a little, and outlines what was kept;
        ``scores`` lays a heat map of the ranks of the scores over it (tokens without a score stay grey).

    Returns
    -------
    PIL.Image.Image
        RGB; overlapping tiles (a thumbnail and its crops) and frames get panels of their own; a legend below.

    Raises
    ------
    ValueError
        Unknown mode, or ``scores`` for a method that gives none.
    """
    if mode not in ("kept", "scores"):
        raise ValueError(f"mode={mode!r} is not allowed; choose one of 'kept', 'scores'.")
    if mode == "scores" and record.scores is None:
        raise ValueError("This method gives no scores to show; use mode='kept'.")
    unit = record.unit.filled()
    values, known = _token_values(record, unit.length, mode)
    paint = _paint_kept if mode == "kept" else _paint_scores
    pictures = [_draw(panel, unit, values, known, paint) for panel in _panels(image, unit)]
    return _with_legend(_contact_sheet(pictures), record, mode)


def _token_values(record: Any, n: int, mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """Value in [0, 1] of every token, and whether it has one."""
    if mode == "scores":
        scores = record.scores.float().numpy()
        known = np.isfinite(scores)
        # by rank: selection goes by rank, and one outlier would turn a linear scale all dark
        values = np.zeros(n)
        values[known] = scores[known].argsort(kind="stable").argsort(kind="stable") / max(known.sum() - 1, 1)
        return values, known
    values = np.full(n, _DROPPED)
    if record.groups is not None:
        values[record.groups.numpy() >= 0] = _MERGED
    values[record.kept.numpy()] = _KEPT
    return values, np.ones(n, dtype=bool)


def _score_range(record: Any) -> tuple[float, float]:
    scores = record.scores.float().numpy()
    finite = scores[np.isfinite(scores)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)


def _panels(image: Frames, unit: Unit) -> list[_Panel]:
    """Spread the partitions over as few pictures as possible without overlap on any of them."""
    frames = [image] if isinstance(image, Image.Image) else list(image)
    frames = [_enlarged(frame.convert("RGB")) for frame in frames]
    count = len(unit.part_grids)
    boxes: list[Box] = list(unit.info.get("boxes") or [_WHOLE] * count)
    if unit.modality == "video":
        return [_Panel(frames[min(p, len(frames) - 1)], ((p, boxes[p]),)) for p in range(count)]
    groups: list[list[int]] = []
    for p in range(count):
        free = [g for g in groups if not any(_overlap(boxes[p], boxes[q]) for q in g)]
        if free:
            free[0].append(p)
        else:
            groups.append([p])
    return [_Panel(frames[0], tuple((p, boxes[p]) for p in group)) for group in groups]


def _overlap(a: Box, b: Box) -> bool:
    slack = 1e-6
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return wide > slack and high > slack


def _enlarged(image: Image.Image, smallest: int = 336) -> Image.Image:
    """Blow small pictures up by a whole factor, so that cells and legend can be read."""
    factor = math.ceil(smallest / max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _draw(panel: _Panel, unit: Unit, values: np.ndarray, known: np.ndarray, paint: Any) -> Image.Image:
    canvas = np.asarray(panel.image, dtype=np.float32).copy()
    part, cell = np.asarray(unit.part), np.asarray(unit.cell)
    for p, box in panel.parts:
        rows = np.flatnonzero((part == p) & (cell >= 0))
        height, width = unit.part_grids[p]
        lattice = np.zeros(height * width)
        there = np.zeros(height * width, dtype=bool)
        lattice[cell[rows]] = values[rows]
        there[cell[rows]] = known[rows]
        left, top, right, bottom = _pixels(box, panel.image)
        region = canvas[top:bottom, left:right]
        index = _cell_of_pixels(region.shape[0], region.shape[1], height, width)
        paint(region, lattice[index], there[index], index)
    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))


def _pixels(box: Box, image: Image.Image) -> tuple[int, int, int, int]:
    left, right = round(box[0] * image.width), round(box[2] * image.width)
    top, bottom = round(box[1] * image.height), round(box[3] * image.height)
    return max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)


def _cell_of_pixels(height: int, width: int, rows: int, cols: int) -> np.ndarray:
    """Raster index of the cell each pixel lies in: int [height, width]."""
    r = np.arange(height) * rows // max(height, 1)
    c = np.arange(width) * cols // max(width, 1)
    return r[:, None] * cols + c[None, :]


def _paint_kept(region: np.ndarray, values: np.ndarray, known: np.ndarray, index: np.ndarray) -> None:
    grey = region.mean(-1, keepdims=True)
    dimmed = (0.3 * region + 0.7 * grey) * values[..., None]
    kept = values >= _KEPT
    region[...] = np.where(kept[..., None], region, dimmed)
    region[_border(kept)] = _OUTLINE


def _border(kept: np.ndarray) -> np.ndarray:
    """Kept pixels at the edge of a kept area (the edge of the picture does not count)."""
    edge = np.zeros_like(kept)
    padded = np.pad(kept, 1, mode="edge")
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        edge |= kept & ~padded[dy : dy + kept.shape[0], dx : dx + kept.shape[1]]
    return edge


def _paint_scores(region: np.ndarray, values: np.ndarray, known: np.ndarray, index: np.ndarray) -> None:
    grey = region.mean(-1, keepdims=True)
    heat = 0.4 * grey + 0.6 * viridis(values).astype(np.float32)
    region[...] = np.where(known[..., None], heat, 0.6 * grey)


def _contact_sheet(pictures: list[Image.Image]) -> Image.Image:
    """Lay pictures of about the same size out in rows of at most four."""
    if len(pictures) == 1:
        return pictures[0]
    cols = min(4, len(pictures))
    rows = math.ceil(len(pictures) / cols)
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    sheet = Image.new("RGB", (cols * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), _PAPER)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, ((i % cols) * (width + _GAP), (i // cols) * (height + _GAP)))
    return sheet


def _with_legend(sheet: Image.Image, record: Any, mode: Mode, height: int = 28) -> Image.Image:
    out = Image.new("RGB", (sheet.width, sheet.height + height), _PAPER)
    out.paste(sheet, (0, 0))
    draw, font, middle = ImageDraw.Draw(out), ImageFont.load_default(14), sheet.height + height // 2
    share = 100 * record.after / max(record.before, 1)
    text = f"{record.after} of {record.before} tokens kept ({share:.3g} %)"
    if mode == "kept":
        merged = record.groups is not None and int((record.groups >= 0).sum()) > len(record.kept)
        text += "; outlined: kept, grey: merged into them" if merged else "; outlined: kept"
        draw.text((8, middle), text, fill=_INK, font=font, anchor="lm")
        return out
    low, high = _score_range(record)
    bar = np.repeat(viridis(np.linspace(0, 1, 96))[None], 12, axis=0)
    out.paste(Image.fromarray(bar), (8, middle - 6))
    draw.text((112, middle), f"rank of the score ({low:.3g} to {high:.3g})", fill=_INK, font=font, anchor="lm")
    return out
