"""What the proof prunes with: choices that depend on content alone, at every place outside of the vision tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..core.stage import Decoder, ModelFacts, Projector, Selection, Stage, View
from ..methods.base import Method


@dataclass(kw_only=True)
class Norms(Method):
    """Keep the rows of largest norm: depends on content, not on the batch.

    Parameters
    ----------
    before : bool
        Drop before the language model, ``keep`` of every image.
    cuts : tuple of (int, float)
        Decoder layers to drop before, and the share kept of what is left there.
    positions, scope : str
        See :class:`~vtc.core.stage.Stage`; ``scope`` is that of the cuts.
    """

    name = "norms"
    summary = "rows of largest norm, for proofs"
    cuts: tuple[tuple[int, float], ...] = ()
    before: bool = True
    positions: str = "keep"
    scope: str = "image"

    def stages(self, facts: ModelFacts) -> list[Stage]:
        """One before the language model, one per cut."""
        stages = [self._stage(Projector(), self.keep_count, "image")] if self.before else []
        return stages + [self._stage(Decoder(layer), _share(share), self.scope) for layer, share in self.cuts]

    def _stage(self, place: Decoder | Projector, count: Callable[[int], int], scope: str) -> Stage:
        return Stage(place, self.select, count, scope=scope, positions=self.positions)  # type: ignore[arg-type]

    def select(self, view: View) -> Selection:
        """Rows in descending order of their norm, as many as the budget."""
        scores = view.features.float().norm(dim=-1)
        return Selection(scores.sort(descending=True, stable=True).indices[: view.budget].sort().values, scores=scores)


def _share(share: float) -> Callable[[int], int]:
    return lambda n: max(1, round(share * n))


def probes(layers: int) -> dict[str, Norms]:
    """Places to prove on a decoder of ``layers`` layers: before it, inside it, and with positions closed up."""
    cuts = ((1, 0.5), (layers - 1, 0.5)) if layers > 2 else ((layers - 1, 0.5),)
    return {
        "before": Norms(keep=0.4),
        "inside": Norms(before=False, cuts=cuts, scope="row"),
        "renumbered": Norms(keep=0.6, positions="renumber"),
    }
