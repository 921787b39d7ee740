"""EVS: keep the first frame of a video, and of the others what has changed since the frame before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.diversity import unit_rows
from ..core.select import topk_indices, with_structure
from ..core.stage import ModelFacts, Selection, Stage, View
from .scorer import BeforeLLM

FIRST = 255.0
"""Change of the tokens of a first frame: more than any."""
GRAIN = 1e-6  # duplicates differ by float noise, which must not rank them


def changes(features: Tensor, part: Tensor, cell: Tensor) -> Tensor:
    """1 - cosine of every token [N, D] to the token of the same cell one frame before; :data:`FIRST` without one."""
    unit = unit_rows(features)
    width = int(cell.max()) + 1
    place = part * width + cell
    where = torch.full((int(place.max()) + 1 + width,), -1, dtype=torch.long, device=part.device)
    where[place + width] = torch.arange(len(part), device=part.device)
    before = where[place]
    change = torch.empty(len(unit), dtype=unit.dtype, device=unit.device)
    for rows in torch.arange(len(unit), device=unit.device).split(4096):
        change[rows] = 1 - (unit[rows] * unit[before[rows].clamp_min(0)]).sum(1)
    # to the grain, so that what did not change at all is ranked by its place
    return ((change / GRAIN).round() * GRAIN).masked_fill(before < 0, FIRST)


@dataclass(kw_only=True)
class EVS(BeforeLLM):
    """Efficient video sampling: what stands still from frame to frame is dropped.

    With the token ``x[t, n]`` of raster cell n in frame t, and N cells::

        d[0, n] = 255,   d[t, n] = 1 - cos(x[t, n], x[t-1, n])
        K       = max(N, keep T N)
        keep      the K tokens of largest d over the whole video, of equal ones the earlier

    The first frame always stays whole, so fewer than N tokens cannot be had: a smaller budget keeps the first
    frame. Frames are compared with the one before, whatever was kept of it: slow drift is not noticed. Neither the
    question nor any attention is read. Images are left alone, since nothing in them moves.

    Parameters
    ----------
    keep : float or int
        Share of the patches of each video, or tokens per video; the first frame counts.

    Notes
    -----
    Source: arXiv 2510.14624, and the rule that vLLM ships, which compares features; the paper compares pixels.
    Positions are kept, which is the method's point ("positional identity"). Differences: changes are rounded to
    1e-6 before they are ranked, so that float noise does not choose among still tokens.
    """

    name: ClassVar[str] = "evs"
    summary: ClassVar[str] = "tokens that change from frame to frame, the first frame whole (videos; baseline)"
    paper: ClassVar[str] = "2510.14624"
    positions: Literal["renumber", "keep"] = "keep"

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, for videos."""
        return [replace(stage, modalities=("video",)) for stage in super().stages(facts)]

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Keep the first frame and what changed most since."""
        rows = view.patches
        part, cell = view.part[rows], view.cell[rows]
        change = changes(view.features[rows], part, cell)
        first = int((part == part.min()).sum())
        kept = rows[topk_indices(change, max(first, view.patch_budget))]
        scores = torch.full((view.n,), torch.nan, dtype=change.dtype, device=change.device)
        scores[rows] = change
        return Selection(with_structure(kept, view.role, self.newlines), scores=scores)
