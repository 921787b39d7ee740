"""What the frames of a clip are: grids of patches, and rows that go where their frame goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.frame_scores import FrameScores, clip_scores, per_part
from ...core.layout import Role, Unit
from ...core.stage import View


@dataclass(frozen=True)
class Region:
    """Tokens of one lattice: ``index`` LongTensor [n] into the view, in raster order.

    ``grid`` is None when they fill no rectangle (rows were dropped earlier, or interpolated); ``newlines`` LongTensor
    [rows] are the separators behind its rows, empty without.
    """

    index: Tensor
    grid: tuple[int, int] | None
    newlines: Tensor


@dataclass(frozen=True)
class Frame:
    """One frame of a video, or one image of a row; ``extra`` rows ([CLS]) stay as long as it has a token."""

    regions: list[Region]
    extra: Tensor

    @property
    def size(self) -> int:
        """Native tokens, newlines not counted."""
        return sum(len(r.index) for r in self.regions)


def frames_of(view: View) -> tuple[list[Frame], Tensor]:
    """Frames of a clip in order, and the rows that belong to none of them (a newline that ends a video): they stay."""
    frames: list[Frame] = []
    loose = torch.zeros(0, dtype=torch.long)
    unit, part, role, cell = view.unit.cpu(), view.part.cpu(), view.role.cpu(), view.cell.cpu()
    for number, geometry in enumerate(view.units):
        mine = (unit == number).nonzero(as_tuple=True)[0]
        here = _Rows(mine, part[mine], role[mine], cell[mine], geometry)
        if geometry.modality == "video":
            sizes = torch.bincount(here.part, minlength=len(geometry.part_grids)).tolist()
            frames += [here.take(rows).frame() for rows in here.part.argsort(stable=True).split(sizes)]
            loose = torch.cat([loose, mine[here.role == Role.NEWLINE]])
        else:
            frames.append(here.image())
    return frames, loose


@dataclass(frozen=True)
class _Rows:
    """Rows of one unit in the view."""

    index: Tensor
    part: Tensor
    role: Tensor
    cell: Tensor
    unit: Unit

    def take(self, rows: Tensor) -> _Rows:
        return _Rows(self.index[rows], self.part[rows], self.role[rows], self.cell[rows], self.unit)

    def frame(self) -> Frame:
        return Frame([self._region(self.role == Role.PATCH)], self.index[self.role == Role.CLASS])

    def image(self) -> Frame:
        """Tiles that were stitched to one map, whose rows end with newlines, are one region."""
        patch, newline = self.role == Role.PATCH, self.role == Role.NEWLINE
        extra = self.index[self.role == Role.CLASS]
        if not bool(newline.any()):
            regions = [self._region(patch & (self.part == p)) for p in self.part[patch].unique().tolist()]
            return Frame(regions, extra)
        base = patch & (self.part == 0)
        stitched = self.index[patch & ~base]
        ends = self.index[newline]
        if not len(stitched):  # an image without tiles: its newline stands for no row
            return Frame([self._region(base)], torch.cat([extra, ends]))
        grid = (len(ends), len(stitched) // len(ends))
        row = (newline.long().cumsum(0) - newline.long())[patch & ~base]
        even = torch.equal(row, torch.arange(len(ends)).repeat_interleave(grid[1]))
        whole = Region(stitched, grid, ends) if even else Region(stitched, None, ends[:0])
        return Frame([self._region(base), whole], extra if even else torch.cat([extra, ends]))

    def _region(self, chosen: Tensor) -> Region:
        index, cell = self.index[chosen], self.cell[chosen]
        none = index[:0]
        if not len(index):
            return Region(index, None, none)
        part = int(self.part[chosen][0])
        grids = self.unit.part_grids
        width = grids[part][1] if part < len(grids) else int(cell.max()) + 1
        rows, cols = cell // width, cell % width
        grid = (int(rows.max() - rows.min()) + 1, int(cols.max() - cols.min()) + 1)
        full = ((rows - rows.min()) * grid[1] + cols - cols.min()).equal(torch.arange(grid[0] * grid[1]))
        return Region(index, grid if full else None, none)


def per_token(frames: list[Frame], scores: Tensor, n: int) -> Tensor:
    """Score of the frame of each token [n] fp32, NaN for rows of no frame."""
    out = torch.full((n,), torch.nan)
    for frame, score in zip(frames, scores.tolist(), strict=True):
        for region in frame.regions:
            out[region.index] = score
    return out


def scores_of(view: View, given: FrameScores | None, frames: int) -> Tensor:
    """Scores [T] fp64 of the frames of a clip: those ``given`` to the method, else what the call was given.

    Raises
    ------
    ValueError
        There are none, and more than one frame.
    """
    given = view.scored if given is None else given
    if given is None and frames == 1:
        given = "uniform"  # a single frame gets the whole budget whatever its score
    if given is None:
        raise ValueError(
            "quota needs a score per frame: vtc.patch(model, 'quota', frame_scores=...), or a scorer=..., or `with "
            "handle.frame_scores(scores):` around the call; 'uniform' gives all frames the same."
        )
    scores = clip_scores(given, view.clip, view.clips)
    joined = view.units[0].info.get("frames_per_part", 1)
    return torch.ones(frames, dtype=torch.float64) if scores is None else per_part(scores, frames, joined)
