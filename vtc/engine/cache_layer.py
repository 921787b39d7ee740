"""The layer of a cache that stores fewer tokens than it has seen.

``get_seq_length`` keeps counting logical tokens, so that ``generate``, masks, positions, crops and second turns need no
change; ``get_mask_sizes`` exposes the difference as an offset, as sliding-window layers of transformers do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


class Shrunk:
    """Mixin over any cache layer class.

    Attributes
    ----------
    dropped : int
        Logical tokens that were never stored (of the longest row).
    valid : BoolTensor [B, P] or None
        Which of the first P stored columns are real; later ones are. None: all.
    columns : LongTensor [B, P] or None
        Logical column of each of the first P stored ones; later ones follow without gaps.
    shift : LongTensor [B] or None
        What to subtract from logical positions of later tokens (renumbered positions).
    fixed : int
        Stored columns up to the last dropped token; later ones may be cropped.
    history : tuple
        Segments this layer has lived through; layers with equal history share masks.
    plain : bool
        What later steps need is in the numbers above that transformers asks for; else the hooks of a patch must help.
    helped : bool
        The hooks have prepared the forward that runs now.
    asked : Tensor or None
        The caller's mask of the forward that runs now; compiled graphs know no forward that could tell.
    """

    is_compileable: bool  # of the class it is mixed into
    dropped: int = 0
    valid: Tensor | None = None
    columns: Tensor | None = None
    shift: Tensor | None = None
    fixed: int = 0
    history: tuple = ()
    plain: bool = False
    helped: bool = False
    asked: Any = None

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Store keys and values of a forward whose mask and positions were made for this layer.

        Raises
        ------
        ValueError
            They were not: without the patch the answer would be wrong in silence.
        """
        if not (self.helped or self.plain):
            raise ValueError(
                "This cache holds fewer tokens than it counts, and masks or positions of further tokens depend on "
                "which: only a model patched by vtc can go on with it. Go on inside of the patch that filled it (`with "
                "vtc.patched(...)`, before vtc.unpatch; handle.disabled() will do), or start from a new cache."
            )
        self.helped, self.asked = False, None
        return super().update(*args, **kwargs)  # type: ignore[misc]

    def get_seq_length(self) -> Any:
        """Count logical tokens."""
        return super().get_seq_length() + self.dropped  # type: ignore[misc]

    def get_mask_sizes(self, query_length: int) -> tuple[Any, Any]:
        """Physical number of keys, offset in logical columns."""
        dropped, self.dropped = self.dropped, 0  # the base class asks self.get_seq_length()
        try:
            length, offset = super().get_mask_sizes(query_length)  # type: ignore[misc]
        finally:
            self.dropped = dropped
        return length, offset + dropped

    def stored(self) -> int:
        """Tokens held per row."""
        return int(super().get_seq_length())  # type: ignore[misc]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Permute rows."""
        super().reorder_cache(beam_idx)  # type: ignore[misc]
        self._rows(lambda x: x.index_select(0, beam_idx.to(x.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat rows."""
        super().batch_repeat_interleave(repeats)  # type: ignore[misc]
        self._rows(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Select rows."""
        super().batch_select_indices(indices)  # type: ignore[misc]
        self._rows(lambda x: x[indices.to(x.device) if isinstance(indices, Tensor) else indices])

    def crop(self, tokens_to_remove: int) -> None:
        """Remove tokens from the end; refuse to reach into the part where tokens were dropped.

        Parameters
        ----------
        tokens_to_remove : int
            Negative: how many to remove. Positive, the legacy form: logical length that is to be left.
        """
        given = int(tokens_to_remove)
        remove = -given if given <= 0 else int(self.get_seq_length()) - given
        if remove > self.crop_limit():
            raise ValueError(
                f"Cannot crop {remove} tokens: only the last {self.crop_limit()} tokens of this cache come after its "
                "pruned visual tokens. Crop less, or start from a new cache."
            )
        if remove < 0:
            return
        # older releases take what is left for a physical length, and compute it from get_seq_length
        dropped, self.dropped = self.dropped, 0
        try:
            super().crop(-remove)  # type: ignore[misc]
        finally:
            self.dropped = dropped
        held = self.stored()
        self.valid = None if self.valid is None else self.valid[:, :held]
        self.columns = None if self.columns is None else self.columns[:, :held]

    def crop_limit(self) -> int:
        """Tokens at the end that :meth:`crop` may take."""
        return self.stored() - self.fixed

    def reset(self) -> None:
        """Forget everything; the layer counts plainly again."""
        super().reset()  # type: ignore[misc]
        self.dropped, self.fixed, self.history, self.plain, self.helped = 0, 0, (), True, False
        self.valid = self.columns = self.shift = None

    def _rows(self, fn: Callable[[Tensor], Tensor]) -> None:
        for name in ("valid", "columns", "shift"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, fn(value))

    def __reduce_ex__(self, protocol: object) -> tuple:
        # the class is made at run time: another process makes it anew from the class it extends
        return _revive, (type(self).__mro__[2],), dict(self.__dict__)


_CLASSES: dict[type, type] = {}


def _revive(cls: type) -> Shrunk:
    return object.__new__(shrunk_class(cls))


def shrunk_class(cls: type) -> type:
    """Class of a layer that counts logically: ``Shrunk`` mixed into ``cls`` (made once per class)."""
    if issubclass(cls, Shrunk):
        return cls
    if cls not in _CLASSES:
        _CLASSES[cls] = type("Shrunk" + cls.__name__, (Shrunk, cls), {"__module__": __name__})
    return _CLASSES[cls]
