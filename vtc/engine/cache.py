"""Cache layers that store fewer tokens than they have seen.

``get_seq_length`` keeps counting logical tokens, so that ``generate``, masks, positions, crops and second turns need no
change; ``get_mask_sizes`` exposes the difference as an offset, as sliding-window layers of transformers do.
"""

from __future__ import annotations

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
    shift : LongTensor [B] or None
        What to subtract from logical positions of later tokens (renumbered positions).
    fixed : int
        Stored columns up to the last dropped token; later ones may be cropped.
    history : tuple
        Segments this layer has lived through; layers with equal history share masks.
    """

    dropped: int = 0
    valid: Tensor | None = None
    shift: Tensor | None = None
    fixed: int = 0
    history: tuple = ()

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
        """Remove tokens from the end; refuse to reach into the part where tokens were dropped."""
        if abs(tokens_to_remove) > self.crop_limit():
            raise ValueError(
                f"Cannot crop {abs(tokens_to_remove)} tokens: only the last {self.crop_limit()} tokens of this cache "
                "come after its pruned visual tokens. Crop less, or start from a new cache."
            )
        super().crop(tokens_to_remove)  # type: ignore[misc]
        if self.valid is not None:
            self.valid = self.valid[:, : self.stored()]

    def crop_limit(self) -> int:
        """Tokens at the end that :meth:`crop` may take."""
        return self.stored() - self.fixed

    def reset(self) -> None:
        """Forget everything; the layer counts plainly again."""
        super().reset()  # type: ignore[misc]
        self.dropped, self.valid, self.shift, self.fixed, self.history = 0, None, None, 0, ()

    def _rows(self, fn: Any) -> None:
        if self.valid is not None:
            self.valid = fn(self.valid)
        if self.shift is not None:
            self.shift = fn(self.shift)


_CLASSES: dict[type, type] = {}


def shrunk_class(cls: type) -> type:
    """Class of a layer that counts logically: ``Shrunk`` mixed into ``cls`` (made once per class)."""
    if issubclass(cls, Shrunk):
        return cls
    if cls not in _CLASSES:
        made = type("Shrunk" + cls.__name__, (Shrunk, cls), {"__module__": __name__})
        globals()[made.__name__] = made  # picklable by name
        _CLASSES[cls] = made
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


def commit(
    cache: Any, index: int, gone: int, valid: Tensor | None, shift: Tensor | None, fixed: int, mark: Any
) -> None:
    """Tell layer ``index``, after its forward, that it stands for ``gone`` more logical tokens than it stored.

    ``valid`` covers all stored columns; ``fixed`` of them lie before or at the last dropped token; ``mark`` identifies
    the segment.
    """
    layer = cache.layers[index]
    if not is_token_layer(layer):
        return
    if gone == 0 and valid is None and shift is None and not isinstance(layer, Shrunk):
        return
    if not isinstance(layer, Shrunk):
        # cache layers are ABCs with slots of their own: assigning __class__ fails, sharing the state does not
        twin: Any = object.__new__(shrunk_class(type(layer)))
        twin.__dict__.update(layer.__dict__)
        cache.layers[index] = layer = twin
    layer.dropped += gone
    layer.valid = valid
    if shift is not None:
        layer.shift = shift
    if gone:
        layer.fixed = fixed
    layer.history = (*layer.history, mark)


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
