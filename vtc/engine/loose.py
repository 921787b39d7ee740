"""Features that were encoded outside of a forward and come back in ``inputs_embeds``: recognised by their rows."""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.adapters import EncodeRecord

from .seams import FEATURES

KEPT = 256  # images whose prints are remembered
CLOSE = 1e-9


@dataclass
class Print:
    """One image: its record, its place there, and one number per row of its features."""

    record: EncodeRecord
    number: int
    start: int
    rows: Tensor


def fingerprint(rows: Tensor) -> Tensor:
    """One number per row of ``[..., D]``, in fp64; equal rows have equal numbers."""
    weights = torch.cos(torch.arange(1, rows.shape[-1] + 1, dtype=torch.float64, device=rows.device))
    return (rows.detach().double() * weights).sum(-1)


class Loose:
    """Remembers prints of features, a number per row, so that no features are kept alive.

    People encode an image once and ask many questions: ``get_image_features`` of the patched model, scattered into the
    embeddings of each prompt. Such a prompt has no pixels and no placeholders left.
    """

    def __init__(self) -> None:
        self.prints: deque[Print] = deque(maxlen=KEPT)
        self.told = False

    def note(self, record: EncodeRecord, output: object) -> None:
        """Remember the images of one feature call."""
        features = getattr(output, FEATURES)
        rows = torch.cat(list(features)) if isinstance(features, (list, tuple)) else features
        found, start = fingerprint(rows.reshape(-1, rows.shape[-1])), 0
        if found.shape[0] != record.rows:
            return
        for number, unit in enumerate(record.units):
            self.prints.append(Print(record, number, start, found[start : start + unit.length]))
            start += unit.length

    def record_of(self, output: object) -> EncodeRecord | None:
        """Record of a copy of what a feature method returned; None when its rows are not those of whole images."""
        features = getattr(output, FEATURES, None)
        if features is None:
            return None
        rows = torch.cat(list(features)) if isinstance(features, (list, tuple)) else features
        seen, found = fingerprint(rows.reshape(-1, rows.shape[-1])), []
        while len(seen):
            hit = next((p for p in reversed(self.prints) if _same(seen[: len(p.rows)], p.rows)), None)
            if hit is None:
                return None
            found.append(hit)
            seen = seen[len(hit.rows) :]
        first = found[0].record if found else None
        whole = first is not None and [id(p.record) for p in found] == [id(first)] * len(first.units)
        return first if whole else _joined(found[0].record.modality, found)

    def find(self, embeds: Tensor) -> tuple[list[EncodeRecord], dict[str, Tensor]]:
        """Images whose rows stand in ``embeds`` [B, L, D], in their order, and their columns by modality."""
        if not self.prints or embeds.shape[1] < 2:
            return [], {}
        seen = fingerprint(embeds)
        hits: dict[str, list[tuple[int, Tensor, Print]]] = {}
        for row in range(len(seen)):
            for known in self.prints:
                for columns in _columns(seen[row], known.rows.to(seen.device)):
                    hits.setdefault(known.record.modality, []).append((row, columns, known))
        records, placeholders = [], {}
        for modality, found in hits.items():
            found = _apart(sorted(found, key=lambda h: (h[0], int(h[1][0]))))
            mask = torch.zeros(embeds.shape[:2], dtype=torch.bool, device=embeds.device)
            for row, columns, _ in found:
                mask[row, columns] = True
            records.append(_joined(modality, [known for _, _, known in found]))
            placeholders[modality] = mask
        return records, placeholders

    def warn(self) -> None:
        """Say once that a prompt of embeddings ran as it is."""
        if not self.told:
            self.told = True
            warnings.warn(
                "vtc: this prompt came as inputs_embeds and no image was found in it, so nothing was pruned. If there "
                "are image features in it, encode them with get_image_features of the patched model, or say where they "
                "are: vtc.patch(..., images=vtc.Columns(start, length)).",
                UserWarning,
                stacklevel=2,
            )


def _same(seen: Tensor, rows: Tensor) -> bool:
    rows = rows.to(seen.device)
    return seen.shape == rows.shape and bool(((seen - rows).abs() <= CLOSE * (1 + rows.abs())).all())


def _columns(seen: Tensor, rows: Tensor) -> list[Tensor]:
    """Every run of columns of one prompt whose numbers are those of an image, in order."""
    order = rows.sort()
    place = torch.searchsorted(order.values, seen).clamp(0, len(rows) - 1)
    near = torch.stack([order.values[place], order.values[(place - 1).clamp_min(0)]])
    close = ((near - seen).abs() <= CLOSE * (1 + seen.abs())).any(0)
    columns = close.nonzero(as_tuple=True)[0]
    n, found = len(rows), []
    for part in columns.split(n) if len(columns) and len(columns) % n == 0 else ():
        if _same(seen[part], rows):
            found.append(part)
    return found


def _apart(hits: list[tuple[int, Tensor, Print]]) -> list[tuple[int, Tensor, Print]]:
    """Hits without those on columns that are taken: the same image may have been encoded twice."""
    taken: set[tuple[int, int]] = set()
    left = []
    for row, columns, known in hits:
        if (row, int(columns[0])) not in taken:
            taken.add((row, int(columns[0])))
            left.append((row, columns, known))
    return left


def _joined(modality: str, prints: list[Print]) -> EncodeRecord:
    units = [p.record.units[p.number] for p in prints]
    spans = [slice(p.start, p.start + len(p.rows)) for p in prints]
    needs = set.intersection(*(set(p.record.stats) for p in prints))
    stats = {n: torch.cat([p.record.stats[n][s] for p, s in zip(prints, spans, strict=True)]) for n in needs}
    alive = None
    if any(p.record.alive is not None for p in prints):
        every = [
            torch.ones(len(p.rows), dtype=torch.bool) if p.record.alive is None else p.record.alive[s].cpu()
            for p, s in zip(prints, spans, strict=True)
        ]
        alive = torch.cat(every)
    return EncodeRecord(modality, units, stats, None, alive)
