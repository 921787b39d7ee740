"""Where the images of a prompt of embeddings stand, as its maker says."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

from .words import kind, shown


@dataclass(frozen=True)
class Columns:
    """Columns of the image tokens, for a language model that is handed embeddings with images in them.

    ``vtc.patch(policy.language_model, "vla-pruner", keep=0.5, images=vtc.Columns(1, 256))``

    Parameters
    ----------
    start : int
        Column of the first image token, counted from the first real token of a row: left padding does not count.
    length : int or sequence of int
        Tokens of the image, or of each image (camera), one after another. Square numbers are taken for square
        lattices. The attribute is a tuple.
    actions : int
        Placeholders at the end of the prompt that one pass turns into a chunk of actions (OpenVLA-OFT); 0: actions are
        generated as tokens.

    Raises
    ------
    TypeError
        Not a whole number.
    ValueError
        A number out of range, or no image.

    Examples
    --------
    >>> Columns(1, (256, 256), actions=56).length
    (256, 256)
    """

    start: int
    length: int | Sequence[int]
    actions: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", _count("start", self.start, 0))
        object.__setattr__(self, "actions", _count("actions", self.actions, 0))
        object.__setattr__(self, "length", self._lengths())

    def _lengths(self) -> tuple[int, ...]:
        several = (
            self.length
            if isinstance(self.length, Sequence) and not isinstance(self.length, (str, bytes, bytearray))
            else None
        )
        lengths = tuple(_count("length", n, 1) for n in ((self.length,) if several is None else several))
        if not lengths:
            raise ValueError(f"Columns(length={shown(self.length)}): pass the tokens of at least one image.")
        return lengths

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each image."""
        return self.length if isinstance(self.length, tuple) else self._lengths()

    @property
    def total(self) -> int:
        """Image tokens of a row."""
        return sum(self.lengths)


def _count(name: str, value: object, least: int) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"Columns({name}={shown(value)}) is {kind(value)}; pass a whole number of tokens.")
    if number < least:
        raise ValueError(f"Columns({name}={number}) is not allowed: pass a number >= {least}.")
    return number
