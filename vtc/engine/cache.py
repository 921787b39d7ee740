"""Cache layers that store fewer tokens than they have seen.

``get_seq_length`` keeps counting logical tokens, so that ``generate``, masks, positions, crops and second turns need no
change; ``get_mask_sizes`` exposes the difference as an offset, as sliding-window layers of transformers do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
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

    def _rows(self, fn: Any) -> None:
        for name in ("valid", "columns", "shift"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, fn(value))

    def __reduce_ex__(self, protocol: Any) -> tuple:
        # the class is made at run time: another process makes it anew from the class it extends
        return _revive, (type(self).__mro__[2],), dict(self.__dict__)


_CLASSES: dict[type, type] = {}


def _revive(cls: type) -> Any:
    return object.__new__(shrunk_class(cls))


def shrunk_class(cls: type) -> type:
    """Class of a layer that counts logically: ``Shrunk`` mixed into ``cls`` (made once per class)."""
    if issubclass(cls, Shrunk):
        return cls
    if cls not in _CLASSES:
        _CLASSES[cls] = type("Shrunk" + cls.__name__, (Shrunk, cls), {"__module__": __name__})
    return _CLASSES[cls]


def is_token_layer(layer: Any) -> bool:
    """True for layers that store keys and values per token (not recurrent states, not placeholders)."""
    return hasattr(layer, "get_mask_sizes") and hasattr(layer, "get_seq_length")


def is_shrunk(cache: Any) -> bool:
    """True when some layer of the cache counts logically."""
    return any(isinstance(layer, Shrunk) for layer in getattr(cache, "layers", ()))


def stored(layer: Any) -> int:
    """Tokens per row that ``layer`` holds."""
    return layer.stored() if isinstance(layer, Shrunk) else int(layer.get_seq_length())


def dropped(layer: Any) -> int:
    """Logical tokens ``layer`` has seen but not stored."""
    return getattr(layer, "dropped", 0)


def past_valid(layer: Any) -> Tensor | None:
    """Which stored columns are real: bool [B, P], None when all are."""
    valid = getattr(layer, "valid", None)
    if valid is None:
        return None
    held = stored(layer)
    return F.pad(valid, (0, held - valid.shape[1]), value=True) if held > valid.shape[1] else valid[:, :held]


def join_valid(
    past: Tensor | None, held: int, new: Tensor | None, width: int, batch: int, device: Any
) -> Tensor | None:
    """Validity of ``held`` stored and ``width`` new columns, None when everything is real."""
    if past is None and new is None:
        return None
    if past is None:
        past = torch.ones(batch, held, dtype=torch.bool, device=device)
    if new is None:
        new = torch.ones(batch, width, dtype=torch.bool, device=device)
    return torch.cat([past.to(device), new.to(device)], 1)


@dataclass
class Change:
    """What one forward did to a cache layer.

    ``gone`` logical tokens were not stored; ``valid`` covers all stored columns; ``columns`` are their logical columns;
    ``fixed`` of them lie before or at the last dropped token; ``mark`` tells forward and segment.
    """

    gone: int
    valid: Tensor | None
    columns: Tensor | None
    shift: Tensor | None
    fixed: int
    mark: Any


def commit(cache: Any, index: int, change: Change) -> None:
    """Tell layer ``index``, after its forward, for how many more logical tokens it stands than it stored."""
    layer = cache.layers[index]
    if not isinstance(layer, Shrunk):
        if change.gone == 0 and change.valid is None and change.shift is None:
            return
        # cache layers are ABCs with slots of their own: assigning __class__ fails, sharing the state does not
        twin: Any = object.__new__(shrunk_class(type(layer)))
        twin.__dict__.update(layer.__dict__)
        cache.layers[index] = layer = twin
    layer.dropped += change.gone
    layer.valid, layer.columns = change.valid, change.columns
    if change.shift is not None:
        layer.shift = change.shift
    if change.gone:
        layer.fixed = change.fixed
    layer.history = (*layer.history, change.mark)


def settle(cache: Any) -> None:
    """Note on every layer whether transformers' own code can go on with this cache."""
    layers = [layer for layer in cache.layers if is_token_layer(layer)]
    uniform = len({dropped(layer) for layer in layers}) == 1
    for layer in layers:
        if isinstance(layer, Shrunk):
            layer.plain = uniform and layer.valid is None and layer.shift is None


def help_layers(cache: Any, alike: Any, asked: Any = None) -> None:
    """Mark the layers that lived through the same as ``alike`` as prepared for the forward that begins.

    The others are left the mask that the caller ``asked`` for.
    """
    history = getattr(alike, "history", ())
    for layer in getattr(cache, "layers", ()):
        if isinstance(layer, Shrunk):
            layer.helped, layer.asked = layer.history == history, asked


def withdraw(cache: Any) -> None:
    """End of a forward, however it ended: nobody has prepared the next one."""
    for layer in getattr(cache, "layers", ()):
        if isinstance(layer, Shrunk):
            layer.helped, layer.asked = False, None


def logical_columns(layer: Any, batch: int, device: Any, held: int | None = None) -> Tensor:
    """Logical column of the first ``held`` stored columns of a layer (None: of all): LongTensor [B, held]."""
    held, known = stored(layer) if held is None else held, getattr(layer, "columns", None)
    later = torch.arange(held, device=device) + dropped(layer)
    if known is None:
        return later.expand(batch, -1)
    known = known.to(device)[:, :held]
    return torch.cat([known, later[known.shape[1] :].expand(batch, -1)], 1)


def first_layer(cache: Any) -> Any:
    """First layer of a cache that stores tokens, None without a cache."""
    return next((layer for layer in getattr(cache, "layers", ()) if is_token_layer(layer)), None)


def layer_at(cache: Any, index: int) -> Any:
    """Cache layer of decoder layer ``index``; None where there is none (yet)."""
    layers = getattr(cache, "layers", ())
    return layers[index] if index < len(layers) else None


def index_of(cache: Any, layer: Any) -> int:
    """Position of a layer in its cache."""
    return next(i for i, other in enumerate(cache.layers) if other is layer)


def shift_of(cache: Any) -> Tensor | None:
    """What the first layer subtracts from logical positions."""
    return getattr(first_layer(cache), "shift", None)


def extra_shift(cache: Any, index: int) -> Tensor | None:
    """What the cache subtracts from positions in layer ``index`` beyond what it subtracts in the first: [B] or None."""
    layer, first = layer_at(cache, index), first_layer(cache)
    shift, before = getattr(layer, "shift", None), getattr(first, "shift", None)
    if shift is None or layer.history == getattr(first, "history", ()):
        return None
    return shift if before is None else shift - before


_STORES = ("keys", "values", "_quantized_keys", "_quantized_values")


def kv_bytes(cache: Any) -> list[int]:
    """Bytes held per layer, summed from the tensors themselves."""
    return [sum(_bytes(getattr(layer, name, None)) for name in _STORES) for layer in getattr(cache, "layers", ())]


def _bytes(held: Any) -> int:
    if isinstance(held, (tuple, list)):
        return sum(map(_bytes, held))
    if isinstance(held, dict):
        return sum(map(_bytes, held.values()))
    if not isinstance(held, Tensor):
        return 0
    if hasattr(held, "__tensor_flatten__"):  # quantised tensors wrap plain ones
        return sum(_bytes(getattr(held, name)) for name in held.__tensor_flatten__()[0])
    return held.numel() * held.element_size()
