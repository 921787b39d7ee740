"""Cosines in three geometries, for the methods that select by them: as they are, centred, centred with a weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ..core.budget import keep_count, split_evenly
from ..core.centering import Normalize, Standardize, distinctiveness, soft_weight, working_rows
from ..core.diversity import unit_rows
from ..core.select import parts_of
from ..core.stage import View
from .base import Method

Geometry = Literal["raw", "centered", "cen"]


@dataclass(kw_only=True)
class Cosines(Method):
    """Fields of methods over cosines of the projected tokens.

    Parameters
    ----------
    geometry : {"raw", "centered", "cen"}
        Cosines of the tokens as they are; after subtracting the mean token, which is what all have in common and
        hides what tells them apart; or the same with the weight of Cen-Prune (arXiv 2608.30263), the negative mean
        cosine of a token to all others before the mean is taken away. Centred without the weight is an ablation: it
        forgets which tokens are far from the mean and does worse than "raw".
    standardize : {"auto", "on", "off"}
        Divide channels by their deviation first; "auto": with "cen", where one channel has more than a tenth of all
        variance.
    normalize : {"auto", "minmax", "sigmoid"}
        How the weight comes into [0, 1]; "auto": by a sigmoid where channels were divided, else linearly, which are the
        paper's pairs.
    """

    geometry: Geometry = "raw"
    standardize: Standardize = "auto"
    normalize: Normalize = "auto"

    def directions(self, rows: Tensor) -> Tensor:
        """Unit rows [N, D] whose products are the cosines."""
        if self.geometry == "raw":
            return unit_rows(rows)
        asked = "off" if self.geometry == "centered" and self.standardize == "auto" else self.standardize
        return unit_rows(working_rows(rows, asked)[0], centered=True)

    def weights(self, rows: Tensor) -> Tensor | None:
        """Weight [N] fp64 of Cen-Prune; None without it."""
        if self.geometry != "cen":
            return None
        working, divided = working_rows(rows, self.standardize)
        kind = self.normalize if self.normalize != "auto" else "sigmoid" if divided else "minmax"
        return soft_weight(distinctiveness(working), kind)


def candidate_sets(view: View, joint: bool, keep: int | float) -> list[tuple[Tensor, int]]:
    """Patches that are selected together, and how many of them: all, or crop by crop and frame by frame."""
    if joint:
        return [(view.patches, view.patch_budget)]
    groups = [rows for unit in range(len(view.units)) for rows in _of_unit(view, unit)]
    sizes = [len(rows) for rows in groups]
    if not isinstance(keep, int):
        return [(rows, keep_count(keep, size)) for rows, size in zip(groups, sizes, strict=True)]
    shares: list[int] = []
    for unit in range(len(view.units)):
        shares += split_evenly(keep, [len(rows) for rows in _of_unit(view, unit)])
    return list(zip(groups, shares, strict=True))


def _of_unit(view: View, unit: int) -> list[Tensor]:
    mine = (view.unit == unit).nonzero(as_tuple=True)[0]
    return [mine[rows] for rows in parts_of(view.part[mine], view.role[mine])]
