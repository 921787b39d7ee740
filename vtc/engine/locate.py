"""Find the columns of a prompt's images, and which of them survive so far."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.adapters import EncodeRecord

from ..core.image import ImageRecord, Place
from .forward import Forward, Images


def locate(images: Images, batch: int) -> None:
    """Find every image's columns.

    Feature rows fill placeholders in (row, column) order, modality by modality; ``generate`` repeats rows for beams but
    encodes each image once, so only the first of each run of equal rows is looked at.

    Raises
    ------
    ValueError
        Placeholders and encoded rows do not fit together.
    """
    places: list[Place] = []
    expands = set()
    for number, record in enumerate(images.records):
        mask = images.placeholders.get(record.modality)
        total = 0 if mask is None else int(mask.sum())
        if mask is None or record.rows == 0 or total % record.rows or batch % max(1, total // record.rows):
            raise ValueError(
                f"{total} {record.modality} placeholder tokens in a batch of {batch}, but {record.rows} encoded "
                f"{record.modality} rows: the prompt and the pixels do not belong together."
            )
        # Beams repeat prompts and not pixels: the features of one image stand for so many equal rows.
        expands.add(total // record.rows)
        places += _of_record(record, number, mask, total // record.rows)
    if len(expands) > 1:
        raise ValueError(f"Images and videos of one batch are repeated differently ({sorted(expands)} times).")
    images.expand = expands.pop() if expands else 1
    images.places = _ordered(places)


def _of_record(record: EncodeRecord, number: int, mask: Tensor, expand: int) -> list[Place]:
    places, units, start = [], iter(record.units), 0
    for row in range(0, mask.shape[0], expand):
        columns = mask[row].nonzero(as_tuple=True)[0]
        used = 0
        while used < len(columns):
            unit = next(units)
            if used + unit.length > len(columns):
                raise ValueError(
                    f"Row {row}: its {len(columns)} {record.modality} tokens do not end where an "
                    f"{record.modality} ends."
                )
            alive = torch.arange(unit.length, device=columns.device)
            log = ImageRecord(row, 0, record.modality, unit)
            if record.alive is not None:
                alive = alive[record.alive[start : start + unit.length].to(columns.device)]
                log.note(0, alive)
            places.append(Place(unit, row, columns[used : used + unit.length], number, start, alive, log))
            used += unit.length
            start += unit.length
    return places


def _ordered(places: list[Place]) -> list[Place]:
    """Sort by row and first column and number the images of each row."""
    places.sort(key=lambda p: (p.row, int(p.columns[0])))
    ordinal: dict[int, int] = {}
    for place in places:
        place.log.image = ordinal.get(place.row, 0)
        ordinal[place.row] = place.log.image + 1
    return places


def keep_mask(forward: Forward, device: torch.device) -> Tensor:
    """Logical columns that survive so far: bool [B, L], true for text."""
    layout, images = forward.tokens, forward.images
    keep = torch.ones(layout.batch, layout.length, dtype=torch.bool, device=device)
    for place in images.places:
        keep[place.row, place.columns] = False
        keep[place.row, place.columns[place.alive]] = True
    # Equal rows must lose equal tokens: beams change places later, and with them the rows of the cache.
    if images.expand > 1:
        keep = keep[:: images.expand].repeat_interleave(images.expand, 0)
    return keep
