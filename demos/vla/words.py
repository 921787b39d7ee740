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
WORDS = (*SPECIAL, "put", "the", "on", "plate", *COLORS, *SHAPES, *(f"<bin{i}>" for i in range(BINS)))
IDS = {word: i for i, word in enumerate(WORDS)}
FIRST_BIN = IDS["<bin0>"]
TEXT_LENGTH = 9
"""Tokens of an instruction with the marker behind it."""


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
    unknown = [word for word in words if word not in IDS]
    if unknown or len(words) + 1 != TEXT_LENGTH:
        known = ", ".join(WORDS[len(SPECIAL) : FIRST_BIN])
        raise ValueError(
            f"The policy does not understand {instruction!r}: it takes sentences such as "
            f"{Task('red', 'block', 'blue').text!r}, made of {known}."
        )
    return np.array([IDS[word] for word in (*words, "<act>")], dtype=np.int64)


def bins_of(action: np.ndarray) -> np.ndarray:
    """Nearest bins of actions in [-1, 1]: int64 of the same shape."""
    return np.rint((np.clip(action, -1, 1) + 1) * (BINS - 1) / 2).astype(np.int64)


def action_of(tokens: np.ndarray) -> np.ndarray:
    """Actions in [-1, 1] of action tokens, float32 of the same shape; other tokens mean bin 0, as far as they go."""
    bins = np.clip(tokens - FIRST_BIN, 0, BINS - 1)
    return (bins * 2 / (BINS - 1) - 1).astype(np.float32)
