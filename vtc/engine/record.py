"""What a patched forward leaves behind for the user: kept tokens per image, tokens per layer, bytes and times."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..core.layout import Unit


@dataclass
class SpanLog:
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
        import torch

        return self.cuts[-1][1].cpu() if self.cuts else torch.arange(self.unit.length)

    @property
    def entered(self) -> Tensor:
        """LongTensor on CPU: tokens that entered the language model."""
        import torch

        first = [kept for layer, kept in self.cuts if layer == 0]
        return first[-1].cpu() if first else torch.arange(self.unit.length)

    @property
    def after(self) -> int:
        """Tokens that survived every cut."""
        return len(self.kept)

    @property
    def scores(self) -> Tensor | None:
        """Per token [n] on CPU, larger was better; None when the method ranks nothing."""
        return None if self.raw_scores is None else self.raw_scores.detach().float().cpu()

    @property
    def groups(self) -> Tensor | None:
        """Merge group of each token [n] on CPU: position of its survivor in ``kept``, -1 dropped; None: no merging."""
        return None if self.raw_groups is None else self.raw_groups.cpu()


ImageRecord = SpanLog


@dataclass
class CallRecord:
    """Last prefill with images of a patched model.

    Attributes
    ----------
    images : list of ImageRecord
        In order of row and position; repeated rows (beams) once.
    rows : int
        Rows of the batch as the model ran it.
    sequence : list of int
        Real tokens per row before pruning.
    layers : list of (int, list of int)
        ``(first decoder layer, real tokens per row)`` for every segment of layers.
    cached : list of int
        Real tokens per row that lay in the cache before.
    kv_bytes, kv_bytes_full : list of int
        Bytes per cache layer that this forward left, and what it would have been without pruning.
    """

    images: list[SpanLog]
    rows: int
    sequence: list[int]
    layers: list[tuple[int, list[int]]]
    cached: list[int]
    kv_bytes: list[int]
    kv_bytes_full: list[int]
    clock: Any
    vision_clock: list[Any] = field(default_factory=list)
    decode_steps: int = 0
    decode_seconds: float = 0.0

    @property
    def before(self) -> int:
        """Visual tokens of all images before pruning."""
        return sum(i.before for i in self.images)

    @property
    def after(self) -> int:
        """Visual tokens of all images that survived every cut."""
        return sum(i.after for i in self.images)
