"""Colours that common kinds of colour blindness leave apart."""

from __future__ import annotations

import numpy as np

# eleven even steps through viridis: perceptually even, and light to dark for every eye
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
OKABE_ITO = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
"""Seven colours of Okabe and Ito (2008) for things without an order, black left out."""
OUTLINE = (253, 231, 37)
PAPER, INK = (24, 24, 28), (235, 235, 235)


def viridis(values: np.ndarray) -> np.ndarray:
    """Colours of values in [0, 1]: ``[...] -> [..., 3]``, uint8, dark violet (0) to yellow (1)."""
    place = np.clip(values, 0.0, 1.0) * (len(_VIRIDIS) - 1)
    low = np.minimum(place.astype(int), len(_VIRIDIS) - 2)
    share = (place - low)[..., None]
    return np.round(_VIRIDIS[low] * (1 - share) + _VIRIDIS[low + 1] * share).astype(np.uint8)


def spread_colors(labels: np.ndarray, neighbours: list[tuple[int, int]]) -> dict[int, int]:
    """Colour index (of :data:`OKABE_ITO`) of every label, so that neighbours differ wherever seven colours allow it.

    Parameters
    ----------
    labels : int array
        Labels that need a colour; coloured in increasing order, hence the same for the same picture.
    neighbours : list of (label, label)
    """
    near: dict[int, set[int]] = {int(label): set() for label in np.unique(labels)}
    for a, b in neighbours:
        if a in near and b in near and a != b:
            near[a].add(b)
            near[b].add(a)
    uses, chosen = [0] * len(OKABE_ITO), dict[int, int]()
    for label in sorted(near):
        taken = {chosen[other] for other in near[label] if other in chosen}
        free = [c for c in range(len(OKABE_ITO)) if c not in taken] or list(range(len(OKABE_ITO)))
        chosen[label] = min(free, key=lambda c: (uses[c], c))
        uses[chosen[label]] += 1
    return chosen
