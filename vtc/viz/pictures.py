"""The pictures: one image, a video sheet, several methods side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from vtc.media.limits import DRAWING_SIDE as SIDE

from .fate import Fate, Mode, check_mode
from .geometry import Frames, Sheet, panels
from .paint import paint
from .sheet import Grid, counted, lay_out, legend_items, with_legend


def overlay(
    image: Frames, record: Any, mode: Mode = "kept", *, legend: bool = True, side: int | None = SIDE
) -> Image.Image:
    """Show which tokens of an image a method kept, how it scored or merged them, or in which order it chose them.

    Parameters
    ----------
    image : PIL.Image.Image or sequence of them
        The picture as it was given to the processor; for a video one picture per temporal patch (a single one
        is repeated). See :func:`seen` for processors with a centre crop and :func:`upright` for EXIF orientations.
    record : ImageRecord
        One entry of ``handle.last.images``.
    mode : {"kept", "scores", "groups", "order"}
        ``kept`` dims dropped tokens, dims tokens merged into others a little, and outlines what was kept;
        ``scores`` lays a heat map of the ranks of the scores over it (tokens without a score stay grey);
        ``groups`` colours tokens that were merged together and dots the one that stands for them;
        ``order`` numbers the kept tokens by score: the order of selection of greedy methods.
    legend : bool
    side : int or None
        Longest side of the drawing in pixels, legend included: larger pictures are scaled down before they are
        painted. None draws them as large as they are.

    Returns
    -------
    PIL.Image.Image
        RGB; overlapping tiles (a thumbnail and its crops) and frames get panels of their own.

    Raises
    ------
    ValueError
        Unknown mode, one for which the method has nothing to show, no picture, or too many for ``side``.
    """
    sheet = _painted(image, record, mode, Sheet.of(side))
    return with_legend(sheet, legend_items(record, mode)) if legend else sheet


def _painted(image: Frames, record: Any, mode: Mode, sheet: Sheet) -> Image.Image:
    check_mode(record, mode)
    unit, fate = record.unit.filled(), Fate.of(record)
    return lay_out([paint(panel, unit, fate, mode) for panel in panels(image, unit, sheet)])


def plain(image: Frames, record: Any, *, side: int | None = SIDE) -> Image.Image:
    """Lay the pictures out as :func:`overlay` does without a legend, with nothing painted on them."""
    return lay_out([panel.image for panel in panels(image, record.unit, Sheet.of(side))])


def token_at(
    image: Frames,
    record: Any,
    x: int,
    y: int,
    *,
    captions: bool = False,
    columns: int | None = None,
    side: int | None = SIDE,
) -> int | None:
    """Token behind a pixel of :func:`overlay`, None where there is none (gaps, legend).

    Pass the ``side`` of the drawing; for a pixel of :func:`contact_sheet` also ``captions=True`` and its ``columns``.
    """
    found = panels(image, record.unit, Sheet.of(side, columns, captions))
    grid = Grid.of([panel.image.size for panel in found], columns, captions)
    for i, panel in enumerate(found):
        left, top = grid.place(i)
        if 0 <= x - left < panel.image.width and 0 <= y - top < panel.image.height:
            token = int(panel.tokens[y - top, x - left])
            return token if token >= 0 else None
    return None


def contact_sheet(
    frames: Frames, record: Any, mode: Mode = "kept", *, columns: int | None = None, side: int | None = SIDE
) -> Image.Image:
    """Sheet of a video's frames, each with the share of its tokens that was kept.

    Parameters
    ----------
    frames : sequence of PIL.Image.Image
        One picture per temporal patch.
    record, mode
        See :func:`overlay`.
    columns : int, optional
        Pictures in a row; by default at most four, or of more than 16 pictures about as many as there are rows.
    side : int or None
        See :func:`overlay`.

    Raises
    ------
    ValueError
        As :func:`overlay`.
    """
    check_mode(record, mode)
    unit, fate = record.unit.filled(), Fate.of(record)
    found = panels(frames, unit, Sheet.of(side, columns, captions=True))
    name = "frame" if unit.modality == "video" else "tile"
    captions = []
    for i, panel in enumerate(found):
        mine = np.isin(np.asarray(unit.part), [part for part, _ in panel.parts])
        kept, count = int(fate.kept[mine].sum()), int(mine.sum())
        captions.append(f"{name} {i + 1}: {kept} of {count} ({100 * kept / max(count, 1):.3g} %)")
    sheet = lay_out([paint(panel, unit, fate, mode) for panel in found], columns, captions)
    return with_legend(sheet, legend_items(record, mode))


def compare(
    image: Frames,
    records: Mapping[str, Any],
    mode: Mode = "kept",
    *,
    columns: int | None = None,
    side: int | None = SIDE,
) -> Image.Image:
    """Show what several methods kept of the same image, side by side.

    Parameters
    ----------
    image
        See :func:`overlay`.
    records : mapping of str to ImageRecord
        Captions, such as names of methods, and what each of them did.
    mode, columns, side
        See :func:`contact_sheet`.

    Raises
    ------
    ValueError
        Nothing to compare, or as :func:`overlay`.
    """
    if not records:
        raise ValueError("There is nothing to compare: pass at least one record with its caption.")
    cell = Sheet.of(side, columns, captions=True).cell(len(records))
    pictures = [_painted(image, record, mode, Sheet(cell)) for record in records.values()]
    captions = [f"{name}: {counted(record)}" for name, record in records.items()]
    sheet = lay_out(pictures, columns, captions)
    shared = [item for record in records.values() for item in legend_items(record, mode, alone=False)]
    return with_legend(sheet, list(dict.fromkeys(shared)))
