"""Where tokens are: packings, segments of the decoder, and the geometry of images inside a sequence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

from vtc.kernels import pack_mask, pack_rows


class Role(IntEnum):
    """What one visual token stands for."""

    PATCH = 0
    NEWLINE = 1
    CLASS = 2


@dataclass(frozen=True)
class Packing:
    """Ragged gather of the columns of a batch, right-aligned: ``[B, L] -> [B, K]``.

    Parameters
    ----------
    index : LongTensor [B, K]
        Old column of every new column (padding points at some real column).
    valid : BoolTensor [B, K] or None
        Which new columns are real; None when all are.
    length : int
        L, the number of old columns.
    """

    index: Tensor
    valid: Tensor | None
    length: int

    @classmethod
    def build(cls, keep: Tensor) -> Packing:
        """Pack the columns where ``keep`` (bool [B, L]) is true; shorter rows get padding on the left."""
        counts = keep.sum(1)
        width = max(1, int(counts.max()))  # where every row is masked whole, one column of padding is left
        # a stable sort of the flags moves the kept columns to the right end and leaves their order alone
        order = torch.argsort(keep.to(torch.int8), dim=1, stable=True)
        index = order[:, keep.shape[1] - width :]
        valid = torch.arange(width, device=keep.device)[None] >= (width - counts)[:, None]
        return cls(index, None if bool(valid.all()) else valid, keep.shape[1])

    @property
    def width(self) -> int:
        """K, the number of new columns."""
        return self.index.shape[1]

    def take(self, x: Tensor, dim: int = 1) -> Tensor:
        """Gather along ``dim``; the batch is dimension ``dim - 1``, a batch of one is broadcast."""
        return pack_rows([x], self.index.to(x.device), dim)[0]

    def take_mask(self, mask: Tensor, past: int = 0) -> Tensor:
        """Gather a prepared mask ``[B or 1, H or 1, L, past + L]`` on queries and new keys and close the padding."""
        valid = None if self.valid is None else self.valid.to(mask.device)
        return pack_mask(mask, self.index.to(mask.device), valid, past)

    def then(self, inner: Packing) -> Packing:
        """Compose: ``self`` maps L to K columns, ``inner`` maps those K to fewer."""
        index = self.index.gather(1, inner.index)
        valid = inner.valid
        if self.valid is not None:
            outer = self.valid.gather(1, inner.index)
            valid = outer if valid is None else outer & valid
        return Packing(index, valid, self.length)

    def places(self) -> Tensor:
        """Physical column of every logical one: LongTensor [B, L], -1 where dropped."""
        place = torch.full(self._shape(), -1, dtype=torch.long, device=self.index.device)
        columns = torch.arange(self.width, device=place.device).expand_as(self.index)
        # padding points at columns that were dropped, which nobody looks up
        return place.scatter(1, self.index, columns)

    def within(self, first: Packing) -> Packing:
        """Express this gather of logical columns as a gather of the columns of an earlier packing."""
        place = first.places().clamp_min(0)
        return Packing(place.gather(1, self.index), self.valid, first.width)

    def restore(self, x: Tensor, fill: Literal["last", "zero"] = "last") -> Tensor:
        """Scatter ``[B, K, ...]`` back to ``[B, L, ...]``.

        ``"last"``: a dropped column repeats the last kept column before it, which is what a loss over shifted labels
        needs: the token after an image is predicted from the last kept image token. Columns before the first kept one
        repeat the first. ``"zero"``: dropped columns are 0.
        """
        if fill == "zero":
            out = x.new_zeros(self.index.shape[0], self.length, *x.shape[2:])
            row = torch.arange(x.shape[0], device=x.device)[:, None].expand_as(self.index)
            if self.valid is None:
                out[row, self.index.to(x.device)] = x
            else:
                valid = self.valid.to(x.device)
                out[row[valid], self.index.to(x.device)[valid]] = x[valid]
            return out
        return x.gather(
            1, self._source(x.device).view(*self._shape(), *([1] * (x.ndim - 2))).expand(-1, -1, *x.shape[2:])
        )

    def _shape(self) -> tuple[int, int]:
        return self.index.shape[0], self.length

    def taken(self) -> Tensor:
        """Which old columns were kept: bool [B, L]."""
        kept = torch.zeros(self._shape(), dtype=torch.long, device=self.index.device)
        ones = torch.ones_like(self.index) if self.valid is None else self.valid.long()
        return kept.scatter_add_(1, self.index, ones) > 0

    def _source(self, device: torch.device) -> Tensor:
        kept = self.taken().to(device).long()
        padding = 0 if self.valid is None else (~self.valid.to(device)).sum(1, keepdim=True)
        # a row of which nothing is left repeats its padding
        return ((kept.cumsum(1) - 1).clamp_min(0) + padding).clamp_max(self.width - 1)


@dataclass(frozen=True)
class Segment:
    """What decoder layers from ``start`` on see of the columns of one forward.

    ``packing`` maps the columns of that forward to physical ones (None: untouched); ``valid`` bool [B, K] marks real
    columns (None: all).
    """

    start: int
    packing: Packing | None
    valid: Tensor | None
    width: int


@dataclass(frozen=True)
class Unit:
    """One image, one video or one image with its tiles, as the encoder produced it.

    Parameters
    ----------
    modality : {"image", "video"}
    length : int
        Number of feature rows n.
    grid : tuple of int (t, h, w) or None
        Lattice of the tokens when it is a plain one, ``t * h * w == n``.
    part : LongTensor [n] or None
        Partition (tile, frame) of each row; None means frames of ``grid`` or a single partition.
    cell : LongTensor [n] or None
        Raster index of each row inside its own partition, -1 for newline rows.
    role : LongTensor [n] or None
        :class:`Role` of each row, None means all patches.
    part_grids : tuple of (h, w)
        Lattice of every partition, in the order of ``part``.
    info : dict
        Facts of the family that methods or pictures may read (image size, tile boxes, ...).
    """

    modality: str
    length: int
    grid: tuple[int, int, int] | None = None
    part: Tensor | None = None
    cell: Tensor | None = None
    role: Tensor | None = None
    part_grids: tuple[tuple[int, int], ...] = ()
    info: dict = field(default_factory=dict)

    def filled(self) -> Unit:
        """Return the same unit with every optional tensor present (CPU)."""
        n = self.length
        role = self.role if self.role is not None else torch.zeros(n, dtype=torch.long)
        part, cell, grids = self.part, self.cell, self.part_grids
        if part is None and self.grid is not None:
            t, h, w = self.grid
            part = torch.arange(t).repeat_interleave(h * w)
            cell = torch.arange(h * w).repeat(t)
            grids = ((h, w),) * t
        if part is None:
            part = torch.zeros(n, dtype=torch.long)
        if cell is None:
            cell = torch.arange(n)
        return replace(self, part=part, cell=cell, role=role, part_grids=grids or ((1, n),))

    def subset(self, keep: Tensor) -> Unit:
        """Unit of the rows where ``keep`` (bool [n]) is true; partitions and cells stay what they were."""
        full = self.filled()
        assert full.part is not None and full.cell is not None and full.role is not None
        part, cell, role = full.part[keep], full.cell[keep], full.role[keep]
        return replace(full, length=int(keep.sum()), grid=None, part=part, cell=cell, role=role)
