"""Efficiency numbers: one record per answered document, summaries per task and per run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from torch import Tensor

from vtc.engine.handle import Handle

Key = tuple[str, str, int]
"""Task, split, document number."""


@dataclass(frozen=True)
class Sample:
    """What one answer cost.

    Parameters
    ----------
    task, split : str
    doc_id : int
        -1: the class read no document for this answer.
    visual_before, visual_after : int
        Visual tokens the projector delivered, and those that survived every cut; 0 without images.
    visual_mean : float
        Visual tokens, mean over the decoder's layers.
    sequence_before, sequence_after : int
        Prompt tokens (images and text) without and with the cuts.
    output_tokens : int
        Tokens generated.
    batch : int
        Rows of the call; the times below are those of the whole call.
    prefill_ms, first_token_ms, total_ms : float
        First forward; from the start of ``generate`` to the end of the first forward; all of ``generate``.
    kv_bytes, kv_bytes_full : float
        Cache after the prefill, and what it would be without cuts: this row's share of the call.
    """

    task: str
    split: str
    doc_id: int
    visual_before: int
    visual_after: int
    visual_mean: float
    sequence_before: int
    sequence_after: int
    output_tokens: int
    batch: int
    prefill_ms: float
    first_token_ms: float
    total_ms: float
    kv_bytes: float
    kv_bytes_full: float

    @property
    def key(self) -> Key:
        """Which document it was."""
        return self.task, self.split, self.doc_id

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return asdict(self)


def samples_of(
    handle: Handle, keys: Sequence[Key], ids: Tensor | None, out: Any, clock: Any, pad_token: int | None
) -> list[Sample]:
    """Records of one call of ``generate`` that has just returned ``out``.

    Parameters
    ----------
    handle : Handle
        Its ``last`` holds the record of the prefill, or None when the call brought no image.
    keys : sequence of (task, split, doc_id)
        Documents of the rows, in order.
    ids : LongTensor [B, L] or None
        The prompt.
    out : LongTensor [B, L + T] or an output object of ``generate``
    clock
        With ``prefill``, ``first`` and ``total`` in seconds.
    pad_token : int or None
        Not counted at the end of a row.
    """
    record = handle.last
    tokens = getattr(out, "sequences", out)
    width = ids.shape[1] if ids is not None else 0
    rows = ids.shape[0] if ids is not None else max(1, len(keys))
    times = (1000 * clock.prefill, 1000 * clock.first, 1000 * clock.total)
    share = (0.0, 0.0) if record is None else (sum(record.kv_bytes) / rows, sum(record.kv_bytes_full) / rows)
    found = []
    for row in range(rows):
        task, split, doc_id = keys[row] if row < len(keys) else ("", "", -1)
        visual, sequence = _visual(handle, row, rows), _sequence(record, row, rows, width)
        new = _new_tokens(tokens[row * (len(tokens) // rows), width:], pad_token)
        found.append(Sample(task, split, doc_id, *visual, *sequence, new, rows, *times, *share))
    return found


def _new_tokens(ids: Tensor, pad_token: int | None) -> int:
    """Length without trailing padding (the first padding token may be the end token itself, and counts)."""
    if pad_token is None or len(ids) == 0:
        return len(ids)
    real = (ids != pad_token).nonzero()
    last = int(real[-1]) + 1 if len(real) else 0
    return min(len(ids), last + 1) if last < len(ids) else last


def _visual(handle: Handle, row: int, rows: int) -> tuple[int, int, float]:
    record, layers = handle.last, handle.facts.decoder_layers
    if record is None:
        return 0, 0, 0.0
    expand = max(1, record.rows // rows)  # beams repeat rows, and only the first of each run is recorded
    before, after, total = 0, 0, 0
    for image in (i for i in record.images if i.row == row * expand):
        before += image.before
        after += image.after
        for layer in range(layers):
            kept = [len(k) for first, k in image.cuts if first <= layer]
            total += kept[-1] if kept else image.before
    return before, after, total / max(1, layers)


def _sequence(record: Any, row: int, rows: int, width: int) -> tuple[int, int]:
    if record is None:
        return width, width
    at = row * max(1, record.rows // rows)
    return record.sequence[at], record.layers[-1][1][at]


def summary(samples: Sequence[Sample]) -> dict[str, float]:
    """Means of counts, medians of times (the first call warms the machine up), speed of decoding over all.

    Keys: ``samples``, ``visual_before``, ``visual_after``, ``visual_mean``, ``retained``, ``sequence_after``,
    ``output_tokens``, ``prefill_ms``, ``first_token_ms``, ``decode_tokens_per_s``, ``kv_bytes``, ``kv_bytes_full``.
    """
    if not samples:
        return {"samples": 0}
    counts = ("visual_before", "visual_after", "visual_mean", "sequence_before", "sequence_after", "output_tokens")
    result: dict[str, float] = {"samples": len(samples)}
    for name in (*counts, "kv_bytes", "kv_bytes_full"):
        result[name] = sum(getattr(s, name) for s in samples) / len(samples)
    before = sum(s.visual_before for s in samples)
    result["retained"] = sum(s.visual_after for s in samples) / before if before else 1.0
    for name in ("prefill_ms", "first_token_ms"):
        result[name] = median(getattr(s, name) for s in samples)
    result["decode_tokens_per_s"] = _decode_speed(samples)
    return result


def _decode_speed(samples: Sequence[Sample]) -> float:
    """Tokens after the first one, over all rows of a call, per second of decoding; 0 when nothing was decoded."""
    seconds = sum((s.total_ms - s.first_token_ms) / s.batch for s in samples if s.output_tokens > 1) / 1000
    steps = sum(s.output_tokens - 1 for s in samples if s.output_tokens > 1)
    return steps / seconds if seconds > 0 else 0.0


def by_task(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Group by task, documents in order."""
    groups: dict[str, list[Sample]] = {}
    for sample in sorted(samples, key=lambda s: s.key):
        groups.setdefault(sample.task, []).append(sample)
    return groups
