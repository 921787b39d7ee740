"""Random selection, the baseline every method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from ..core.stage import ModelFacts, Projector, Selection, Stage, View
from .base import Method


@dataclass(kw_only=True)
class Random(Method):
    """Keep tokens of each image uniformly at random.

    The generator is private and seeded by ``seed``, the ordinal of the image in its prompt and its number of tokens:
    the same prompt keeps the same tokens on every call, in every batch, and torch's global state is left alone.
    Newline rows take part like any other token.

    Parameters
    ----------
    seed : int
        Another one draws other tokens.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "uniformly random tokens, seeded (baseline)"
    seed: int = 0
    positions: Literal["keep", "renumber"] = "keep"

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector, per image."""
        return [Stage(at=Projector(), select=self.select, keep_count=self.keep_count, positions=self.positions)]

    def select(self, view: View) -> Selection:
        """Draw ``view.budget`` of N tokens."""
        order = torch.randperm(view.n, generator=view.generator(self.seed))
        return Selection(keep=order[: view.budget].sort().values.to(view.features.device))
