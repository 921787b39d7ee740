"""The two usual kinds of method: what each needs, and how it scores a token, is all that is left to say.

::

    @dataclass(kw_only=True)
    class Longest(BeforeLLM):
        \"\"\"Keep the tokens with the largest norm.\"\"\"

        name: ClassVar[str] = "longest"
        summary: ClassVar[str] = "tokens with the largest norm"

        def score(self, view: View) -> Tensor:
            return view.features.float().norm(dim=1)
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from ..core.select import Newlines, topk_indices, with_structure
from ..core.stage import Decoder, ModelFacts, Need, Projector, Scope, Selection, Stage, View
from .base import Method


@dataclass(frozen=True)
class Cut:
    """Cut ``number`` (from 0) of a method: the decoder layer before which tokens leave, and what is read for it."""

    number: int
    layer: int
    needs: tuple[Need, ...]


class Scorer(Method):
    """Says what it reads (statistics come in the order of the needs) and what it makes of it."""

    def score(self, view: View, *stats: Tensor) -> Tensor:
        """Scores [N] of the tokens of a view, the largest are kept; rows that are no patches do not count.

        Parameters
        ----------
        view : View
        *stats : Tensor [N]
            What the method asked for, in that order.
        """
        raise NotImplementedError(f"{type(self).__name__} implements neither score nor select.")

    def _stats(self, view: View, needs: tuple[Need, ...]) -> list[Tensor]:
        return [view.stats[need] for need in needs]


@dataclass(kw_only=True)
class BeforeLLM(Scorer):
    """Decides once, between projector and language model.

    Implement :meth:`score`; or :meth:`select`, where more than a ranking is to be said.
    """

    newlines: Newlines = "drop"
    positions: Literal["renumber", "keep"] = "renumber"

    needs_text: ClassVar[bool | Literal["question"]] = False
    """True fills ``View.text`` with the prompt's text, "question" with what stands behind its last image."""

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """What is to be read in the encoder; raise ValueError with the reason when the model has no such thing."""
        return ()

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Keep the patches with the largest scores."""
        scores, rows = self.score(view, *stats), view.patches
        kept = rows[topk_indices(scores[rows], view.patch_budget)]
        return Selection(with_structure(kept, view.role, self.newlines), scores=scores)

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage after the projector."""
        needs = self.needs(facts)
        scope: Scope = getattr(self, "scope", "image")
        return [
            Stage(
                Projector(), partial(self.decide, needs=needs), self.keep_count, needs, scope, self.positions,
                needs_text=self.needs_text,
            )
        ]  # fmt: skip

    def decide(self, view: View, needs: tuple[Need, ...]) -> Selection:
        """Look up what was asked for; override it where the needs themselves are keys to more."""
        return self.select(view, *self._stats(view, needs))


@dataclass(kw_only=True)
class InsideLLM(Scorer):
    """Cuts before one or more decoder layers; all images of a prompt compete, unless ``scope="image"``."""

    scope: Literal["row", "image"] = "row"
    positions: Literal["keep", "renumber"] = "keep"

    @abstractmethod
    def schedule(self, facts: ModelFacts) -> list[Cut]:
        """Cuts in the order of their layers; raise ValueError with the reason when the decoder has no such layer."""

    def left(self, view: View, number: int) -> int:
        """Tokens that are left behind cut ``number`` (from 0)."""
        return view.budget

    def select(self, view: View, number: int, *stats: Tensor) -> Selection:
        """Keep the tokens with the largest scores."""
        scores = self.score(view, *stats)
        return Selection(topk_indices(scores, self.left(view, number)), scores=scores)

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One stage per cut."""
        return [
            Stage(
                Decoder(c.layer), partial(self.decide, cut=c), self.keep_count, c.needs, self.scope, self.positions
            )
            for c in self.schedule(facts)
        ]  # fmt: skip

    def decide(self, view: View, cut: Cut) -> Selection:
        """Look up what was asked for."""
        return self.select(view, cut.number, *self._stats(view, cut.needs))
