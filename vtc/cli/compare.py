"""One question with a method at work: the answer, the report, the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vtc
from vtc.chat import Answer, ask
from vtc.core.budget import Keep
from vtc.media.limits import DRAWING_SIDE

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Compressed:
    """What a patched model did for one question; ``reason`` says why "auto" chose ``method``."""

    method: str
    reason: str
    keep: Keep
    answer: Answer
    report: Any
    records: list[Any]

    @property
    def before(self) -> int:
        """Visual tokens the projector delivered."""
        return sum(record.before for record in self.records)

    @property
    def after(self) -> int:
        """Visual tokens that survived every cut."""
        return sum(record.after for record in self.records)


def ask_compressed(
    model: Any,
    processor: Any,
    images: Sequence[Image],
    question: str,
    method: str,
    keep: Keep | None,
    max_new_tokens: int = 32,
    options: dict[str, Any] | None = None,
) -> Compressed:
    """Ask as :func:`vtc.chat.ask` does, with ``method`` (and its ``options``) at work; unpatch afterwards."""
    with vtc.patched(model, method, keep=keep, processor=processor, **(options or {})) as handle:
        answer = ask(model, processor, images, question, max_new_tokens)
        name = "+".join(m.name for m in handle.methods)
        records = [] if handle.last is None else list(handle.last.images)
        return Compressed(name, handle.reason, handle.keep, answer, handle.report(), records)


def write_pictures(
    out: Path, stem: str, processor: Any, images: Sequence[Image], records: Sequence[Any], side: int = DRAWING_SIDE
) -> list[Path]:
    """Write ``STEM_IMAGE_kept.png`` (and ``_scores.png`` where the method ranks) for every image."""
    from vtc.viz import modes, overlay, seen

    out.mkdir(parents=True, exist_ok=True)
    written = []
    for record in records:
        for mode in [mode for mode in modes(record) if mode in ("kept", "scores")]:
            path = out / f"{stem}_{record.image}_{mode}.png"
            overlay(seen(images[record.image], processor), record, mode, side=side).save(path)
            written.append(path)
    return written
