"""The vocabulary: words of instructions and tokens of actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

COLORS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("block", "ball")
BINS = 9
"""Action tokens; every dimension of an action uses the same ones, as in OpenVLA."""
DIMENSIONS = ("dx", "dy", "grip")
SPECIAL = ("<pad>", "<s>", "</s>", "<act>")
NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in ("plate", *SHAPES))
"""Colour and thing are one token, as frequent pairs are in larger vocabularies."""
WORDS = (*SPECIAL, "put", "the", "on", *NAMES, *(f"<bin{i}>" for i in range(BINS)))
IDS = {word: i for i, word in enumerate(WORDS)}
FIRST_BIN = IDS["<bin0>"]
TEXT_LENGTH = 7
"""Tokens of an instruction with the marker behind it."""
OBJECT_AT, PLATE_AT, MARKER_AT = 2, 5, 6
"""Where in it the names and the marker stand."""


@dataclass(frozen=True)
class Task:
    """What is to be done: the object of that colour and shape onto the plate of that colour."""

    color: str
    shape: str
    plate: str

    @property
    def text(self) -> str:
        """The instruction in words."""
        return f"put the {self.color} {self.shape} on the {self.plate} plate"


def encode(instruction: str) -> np.ndarray:
    """Tokens of an instruction and the marker that asks for actions: int64 [TEXT_LENGTH].

    Raises
    ------
    ValueError
        A word the policy does not know, or not as many words as it was trained on.
    """
    words = instruction.lower().split()
    names = [" ".join(words[i : i + 2]) if word in COLORS else word for i, word in enumerate(words)]
    tokens = [name for i, name in enumerate(names) if i == 0 or words[i - 1] not in COLORS]
    unknown = [token for token in tokens if token not in IDS]
    if unknown or len(tokens) + 1 != TEXT_LENGTH:
        known = ", ".join(WORDS[len(SPECIAL) : FIRST_BIN])
        raise ValueError(
            f"The policy does not understand {instruction!r}: it takes sentences such as "
            f"{Task('red', 'block', 'blue').text!r}, made of: {known}."
        )
    return np.array([IDS[token] for token in (*tokens, "<act>")], dtype=np.int64)


def bins_of(action: np.ndarray) -> np.ndarray:
    """Nearest bins of actions in [-1, 1]: int64 of the same shape."""
    return np.rint((np.clip(action, -1, 1) + 1) * (BINS - 1) / 2).astype(np.int64)


def action_of(tokens: np.ndarray) -> np.ndarray:
    """Actions in [-1, 1] of action tokens, float32 of the same shape; other tokens mean bin 0, as far as they go."""
    bins = np.clip(tokens - FIRST_BIN, 0, BINS - 1)
    return (bins * 2 / (BINS - 1) - 1).astype(np.float32)
