"""What a patched forward leaves behind for the user: kept tokens per image, tokens per layer, bytes and times."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.image import ImageRecord
from .clock import Clock

SpanLog = ImageRecord


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
    clock : Clock
        Times of the forward: ``forward``, ``select``, ``score``.
    vision_clock : list of Clock or None
        Times of its feature calls.
    decode_steps : int
    decode_seconds : float
        Steps that followed it, and the time from its end to the last one's.
    """

    images: list[ImageRecord]
    rows: int
    sequence: list[int]
    layers: list[tuple[int, list[int]]]
    cached: list[int]
    kv_bytes: list[int]
    kv_bytes_full: list[int]
    clock: Clock
    vision_clock: list[Clock | None] = field(default_factory=list)
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
