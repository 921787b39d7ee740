"""One feature row per patch."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from vtc.core.layout import Role, Unit

from .geometry import Encoder, FeatureCall, Geometry


@dataclass(frozen=True, repr=False)
class Plain(Geometry):
    """One feature row per patch, [CLS] cut unless the model keeps it; a square number of rows is a square lattice.

    Parameters
    ----------
    sized : bool
        A call with ``image_sizes`` packs images of any size into one sequence, as Pixtral's tower does.
    """

    sized: bool = False

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Lattices of the sizes where they are given, else square ones."""
        if self.sized and call.kwargs.get("image_sizes") is not None:
            return [Unit(call.modality, h * w, grid=(1, h, w)) for h, w in sized_lattices(encoder, call)]
        units = [Unit(call.modality, n, grid=square(n)) for n in self.lengths(encoder, call)]
        return [with_class_row(u) for u in units] if self.keeps_class(encoder, call) else units

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Patches in the order of the features."""
        crops, width = call.patches
        index = torch.arange(crops * width).view(crops, width)
        return index[:, self.cut(encoder, call) :].reshape(-1, 1)


def sized_lattices(encoder: Encoder, call: FeatureCall) -> list[tuple[int, int]]:
    """Rows and columns of patches of every image, from ``image_sizes``."""
    patch = encoder.patch_size
    return [(int(h) // patch, int(w) // patch) for h, w in torch.as_tensor(call.argument("image_sizes")).tolist()]


def square(n: int) -> tuple[int, int, int] | None:
    """``(1, s, s)`` for a square number of tokens, else None."""
    side = isqrt(n)
    return (1, side, side) if side * side == n else None


def with_class_row(unit: Unit) -> Unit:
    """Unit whose first row is the [CLS] token (``vision_feature_select_strategy="full"``)."""
    side = square(unit.length - 1)
    role = torch.zeros(unit.length, dtype=torch.long)
    role[0] = Role.CLASS
    cell = torch.arange(-1, unit.length - 1)
    grids = ((side[1], side[2]),) if side else ((1, unit.length - 1),)
    return Unit(unit.modality, unit.length, None, torch.zeros_like(role), cell, role, grids, unit.info)
