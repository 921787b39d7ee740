"""An example of a package that brings a method and a family of its own to vtc."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from vtc.adapters import Adapter
from vtc.core.stage import ModelFacts, Projector, Selection, Stage, View
from vtc.methods import Method


@dataclass(kw_only=True)
class EveryOther(Method):
    """Keep tokens at equal distances."""

    name: ClassVar[str] = "every-other"
    summary: ClassVar[str] = "equally spaced tokens"

    def stages(self, facts: ModelFacts) -> list[Stage]:
        return [Stage(Projector(), self.select, self.keep_count)]

    def select(self, view: View) -> Selection:
        return Selection(torch.arange(view.budget) * view.n // view.budget)


class ExampleAdapter(Adapter):
    """A family that follows transformers' conventions needs names only."""

    family = "example_vlm"
    model_types = ("example_vlm",)
    video = None
