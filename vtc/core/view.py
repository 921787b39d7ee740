"""What a stage sees when it decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .layout import Role, Unit
from .needs import Need


@dataclass(frozen=True)
class FrameGrids:
    """Frames of a video before the model's own pooling.

    Parameters
    ----------
    rows : Tensor [T, H * W, C]
    grid : (H, W)
    pooling : {"bilinear", "average"}
        What the model does to them, to get the features.
    finish : callable
        What follows the pooling in the model: ``[N, C]`` to feature rows ``[N, D]``.
    """

    rows: Tensor
    grid: tuple[int, int]
    pooling: Literal["bilinear", "average"]
    finish: Callable[[Tensor], Tensor]


@dataclass
class View:
    """Everything a stage sees for one decision over N visual tokens of one row.

    Attributes
    ----------
    features : Tensor [N, D]
        Rows that enter the language model (projector stages) or hidden rows (decoder stages).
    stats : mapping of Need to Tensor
        Per token, ``[N]`` fp32 (``[N, D]`` for hidden rows); rows without a patch (newlines) are NaN.
    unit : LongTensor [N]
        Ordinal of the image of each token within the view (all 0 for scope "image").
    part, cell, role : LongTensor [N]
        Partition (tile or frame) within the image, raster index inside the partition (-1: none), :class:`Role`.
    units : list of Unit
        Geometry, one per ordinal of ``unit``.
    keep_count : callable
        ``keep_count(n)`` tokens to keep of n candidates: the budget, resolved by the library.
    row, image : int
        Row of the batch and ordinal of the (first) image in it; part of the seed of random choices.
    text : Tensor [T, D] or None
        Text rows of the same batch row at the same depth, padding and completions removed: of the whole prompt, or of
        what stands behind its last image (``Stage.needs_text``).
    total : int
        Visual tokens of this view before any stage has run (schedules of shares refer to it).
    state : dict
        The method's memory for this row over calls; empty unless the method keeps one.
    scratch : dict
        Shared by all stages of one forward for one row.
    clip, clips : int
        Ordinal of this decision in the batch, and how many there are (scope "clip").
    scored : list of Tensor or None
        What a scorer gave for the clips of this call.
    unpooled : FrameGrids or None
        Filled when the stage asks for it and the family pools videos behind a seam.
    apart : bool
        Other tokens stand between those of this view: frames between time stamps, images between words (scope "clip").
    """

    features: Tensor
    unit: Tensor
    part: Tensor
    cell: Tensor
    role: Tensor
    units: list[Unit]
    keep_count: Callable[[int], int]
    stats: Mapping[Need, Tensor] = field(default_factory=dict)
    row: int = 0
    image: int = 0
    text: Tensor | None = None
    total: int = 0
    state: dict = field(default_factory=dict)
    scratch: dict = field(default_factory=dict)
    clip: int = 0
    clips: int = 1
    scored: list[Tensor] | None = None
    unpooled: FrameGrids | None = None
    apart: bool = False

    @property
    def n(self) -> int:
        """Number of tokens to decide on."""
        return self.features.shape[0]

    @property
    def budget(self) -> int:
        """Tokens to keep of all N."""
        return self.keep_count(self.n)

    @property
    def patch_budget(self) -> int:
        """Patches to keep: the budget of every image for its patches, added up."""
        units = self.unit[self.role == Role.PATCH]
        return sum(self.keep_count(int(n)) for n in torch.bincount(units).tolist() if n)

    @property
    def modality(self) -> str:
        """``"image"`` or ``"video"``, of the first unit."""
        return self.units[0].modality

    @property
    def patches(self) -> Tensor:
        """Indices [P] of the tokens that stand for patches, not for newlines or separators."""
        return (self.role == Role.PATCH).nonzero(as_tuple=True)[0]

    def generator(self, seed: int) -> torch.Generator:
        """Private CPU generator: the same for the same seed, image ordinal and number of tokens."""
        return torch.Generator().manual_seed((seed * 1_000_003 + self.image * 8191 + self.n) % (2**63))
