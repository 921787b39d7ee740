"""Where one image lies in a batch, and what became of its tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .layout import Unit


@dataclass
class ImageRecord:
    """Fate of one image (or video) of one row.

    Attributes
    ----------
    row, image : int
        Row of the batch, ordinal of the image in it.
    modality : str
    unit : Unit
        Geometry.
    cuts : list of (int, Tensor)
        Decoder layer from which on only these tokens (indices inside the unit) exist; 0 is the cut before the LLM.
    raw_scores, raw_groups : Tensor or None
        Per token of the unit; NaN and -1 where a stage did not look.
    """

    row: int
    image: int
    modality: str
    unit: Unit
    cuts: list[tuple[int, Tensor]] = field(default_factory=list)
    raw_scores: Tensor | None = None
    raw_groups: Tensor | None = None

    @property
    def before(self) -> int:
        """Tokens the projector delivered."""
        return self.unit.length

    @property
    def kept(self) -> Tensor:
        """LongTensor on CPU: tokens that survived every cut, indices inside the unit (raster order)."""
        return self.cuts[-1][1].cpu() if self.cuts else torch.arange(self.unit.length)

    @property
    def entered(self) -> Tensor:
        """LongTensor on CPU: tokens that entered the language model."""
        first = [kept for layer, kept in self.cuts if layer == 0]
        return first[-1].cpu() if first else torch.arange(self.unit.length)

    @property
    def after(self) -> int:
        """Tokens that survived every cut."""
        return len(self.kept)

    def mean(self, layers: int) -> float:
        """Tokens averaged over a decoder of so many layers."""
        counts = (([len(kept) for at, kept in self.cuts if at <= i] or [self.before])[-1] for i in range(layers))
        return sum(counts) / layers if layers else float(self.after)

    @property
    def scores(self) -> Tensor | None:
        """Per token [n] on CPU, larger was better; None when the method ranks nothing."""
        return None if self.raw_scores is None else self.raw_scores.detach().float().cpu()

    @property
    def groups(self) -> Tensor | None:
        """Merge group of each token [n] on CPU: position of its survivor in ``kept``, -1 dropped; None: no merging."""
        return None if self.raw_groups is None else self.raw_groups.cpu()

    def note(self, layer: int, alive: Tensor) -> None:
        """Write down what a cut before ``layer`` left."""
        self.cuts = [c for c in self.cuts if c[0] != layer] + [(layer, alive)]


@dataclass
class Place:
    """One image in the prompt of one (leading) row, while tokens are dropped.

    Attributes
    ----------
    unit : Unit
        Geometry.
    row : int
    columns : LongTensor [n]
        Its logical columns in that row.
    record, start : int
        Encode record it came with, and its first feature row there.
    alive : LongTensor
        Indices of the tokens that are left.
    log : ImageRecord
    """

    unit: Unit
    row: int
    columns: Tensor
    record: int
    start: int
    alive: Tensor
    log: ImageRecord

    @property
    def image(self) -> int:
        """Ordinal among the images of its row."""
        return self.log.image
