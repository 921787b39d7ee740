"""What the tabs let a model do: look at a picture, answer with and without a method, measure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import vtc
from vtc.viz import contact_sheet, overlay, token_at

from .answers import Partial, stream_answer
from .media import Media, media_inputs
from .settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

    from vtc.cli.loading import Loaded
    from vtc.viz import Mode

_COLUMNS = 2
"""Frames in a row: a page has little width."""


@dataclass(frozen=True, eq=False)  # gradio hashes what a State holds; pictures have no hash
class Look:
    """What a method kept of a picture: the record, the pictures behind its partitions, and the settings."""

    record: Any
    pictures: list[Image]
    settings: Settings
    report: Any

    @property
    def _film(self) -> bool:
        return len(self.pictures) > 1

    def picture(self, mode: Mode = "kept") -> Image:
        """Overlay with a legend; for a video a sheet with the share of every frame."""
        if self._film:
            return contact_sheet(self.pictures, self.record, mode, columns=_COLUMNS)
        return overlay(self.pictures, self.record, mode)

    def token_at(self, x: int, y: int) -> int | None:
        """Token behind a pixel of :meth:`picture`."""
        columns = _COLUMNS if self._film else None
        return token_at(self.pictures, self.record, x, y, captions=self._film, columns=columns)


def _patched(loaded: Loaded, chosen: Settings) -> Any:
    return vtc.patched(loaded.model, chosen.method, keep=chosen.keep, processor=loaded.processor, **chosen.options)


def _looked(handle: Any, loaded: Loaded, chosen: Settings, media: Media) -> Look:
    if handle.last is None or not handle.last.images:
        raise ValueError("The model took no picture from this prompt.")
    record = handle.last.images[0]
    return Look(record, media.pictures(loaded.processor, record), chosen, handle.report())


def look(loaded: Loaded, chosen: Settings, media: Media, question: str) -> Look:
    """One forward with the method at work; no answer.

    Raises
    ------
    ValueError
        The method cannot run on this model, or the model takes no video.
    """
    import torch

    inputs = media_inputs(loaded.processor, media, question, loaded.model.device)
    with _patched(loaded, chosen) as handle:
        with torch.no_grad():
            loaded.model(**inputs, use_cache=True)
        return _looked(handle, loaded, chosen, media)


def answer_both(
    loaded: Loaded, chosen: Settings, media: Media, question: str, repeats: int = 0
) -> Iterator[tuple[Partial | None, Partial | None, Look | None]]:
    """Answer without and then with the method, one after the other so that neither slows the other's clock.

    ``repeats`` more runs up to the first token follow each answer; its time to the first token becomes their median.

    Yields
    ------
    (without, with, look)
        As far as they have come; the look comes with the last item.
    """
    inputs = media_inputs(loaded.processor, media, question, loaded.model.device)
    plain: Partial | None = None
    for plain in stream_answer(loaded.model, loaded.processor, inputs):
        yield plain, None, None
    plain = _steady(loaded, inputs, plain, repeats)
    with _patched(loaded, chosen) as handle:
        cut: Partial | None = None
        for cut in stream_answer(loaded.model, loaded.processor, inputs):
            yield plain, cut, None
        yield plain, _steady(loaded, inputs, cut, repeats), _looked(handle, loaded, chosen, media)


def answer(
    loaded: Loaded, chosen: Settings | None, media: Media, question: str, repeats: int = 0
) -> tuple[Partial, Look | None]:
    """Whole answer, with a method or (None) without; ``repeats`` as in :func:`answer_both`."""
    inputs = media_inputs(loaded.processor, media, question, loaded.model.device)
    if chosen is None:
        partial = _last(stream_answer(loaded.model, loaded.processor, inputs))
        return _steady(loaded, inputs, partial, repeats), None
    with _patched(loaded, chosen) as handle:
        partial = _last(stream_answer(loaded.model, loaded.processor, inputs))
        return _steady(loaded, inputs, partial, repeats), _looked(handle, loaded, chosen, media)


def _steady(loaded: Loaded, inputs: dict[str, Any], partial: Partial | None, repeats: int) -> Any:
    """The same answer with the median over its own and ``repeats`` more times to the first token."""
    if partial is None or partial.first is None or not repeats:
        return partial
    return replace(partial, first=statistics.median([partial.first, *_first_times(loaded, inputs, repeats)]))


def _first_times(loaded: Loaded, inputs: dict[str, Any], count: int) -> list[float]:
    from vtc.chat import new_tokens

    times = []
    for _ in range(count):
        start = time.perf_counter()
        new_tokens(loaded.model, inputs, 1).tolist()
        times.append(time.perf_counter() - start)
    return times


def _last(stream: Iterator[Partial]) -> Partial:
    *_, last = stream
    return last


def first_token_ms(loaded: Loaded, chosen: Settings | None, media: Media, question: str, repeats: int = 5) -> float:
    """Median time in milliseconds to the first token, after one warm-up."""
    from contextlib import nullcontext

    inputs = media_inputs(loaded.processor, media, question, loaded.model.device)
    with nullcontext() if chosen is None else _patched(loaded, chosen):
        return 1000 * statistics.median(_first_times(loaded, inputs, repeats + 1)[1:])
