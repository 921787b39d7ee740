"""Methods of a patch and the stages they ask for, as they stand at one time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.stage import Decoder, Encoder, Feedback, ModelFacts, Need, Projector, Stage
from ..methods.base import Method


@dataclass(frozen=True)
class Plan:
    """What a call carries out.

    Attributes
    ----------
    methods : tuple of Method
    stages : tuple of Stage
        Of all methods, in their order.
    feedback : Feedback or None
        Of the one method that remembers.
    """

    methods: tuple[Method, ...]
    stages: tuple[Stage, ...]
    feedback: Feedback | None

    @classmethod
    def of(cls, methods: Sequence[Method], facts: ModelFacts) -> Plan:
        """Plan of copies of ``methods``, which nobody else can change.

        Raises
        ------
        ValueError
            A stage cannot act where it wants to, or methods do not go together.
        """
        own = tuple(copy.copy(m) for m in methods)
        stages = tuple(stage for m in own for stage in m.stages(facts))
        check_stages(stages, facts)
        return cls(own, stages, the_feedback(own, facts))

    @property
    def first(self) -> list[Stage]:
        """Stages after the projector."""
        return [s for s in self.stages if isinstance(s.at, Projector)]

    @property
    def cuts(self) -> dict[int, list[Stage]]:
        """Stages inside the decoder, by layer."""
        found: dict[int, list[Stage]] = {}
        for stage in self.stages:
            if isinstance(stage.at, Decoder):
                found.setdefault(stage.at.layer, []).append(stage)
        return found

    @property
    def tower(self) -> dict[int, list[Stage]]:
        """Stages inside the vision tower, by block."""
        found: dict[int, list[Stage]] = {}
        for stage in self.stages:
            if isinstance(stage.at, Encoder):
                found.setdefault(stage.at.layer, []).append(stage)
        return found

    def needs(self, tower: str) -> list[Need]:
        """Measurements the stages ask for in one tower, each once."""
        return list(dict.fromkeys(n for s in self.stages for n in s.needs if n.tower == tower))

    @property
    def outline(self) -> tuple:
        """Places and needs: what was hooked for one plan serves another with the same outline."""
        return tuple((s.at, s.needs, s.unpooled) for s in self.stages), self.feedback and self.feedback.layers

    @property
    def renumbers(self) -> bool:
        """True when every stage before the language model closes the gaps it makes."""
        return bool(self.first) and all(s.positions == "renumber" for s in self.first)


def the_feedback(methods: Sequence[Method], facts: ModelFacts) -> Feedback | None:
    """Feedback of the one method that remembers; its memory is per visual token, so it must see all of them.

    Raises
    ------
    ValueError
        Another method is to run beside it.
    """
    found = [(m, f) for m in methods if (f := m.feedback(facts)) is not None]
    if found and len(methods) > 1:
        names = ", ".join(m.name for m in methods)
        raise ValueError(
            f"{found[0][0].name!r} remembers every visual token over calls, so no other method may drop any: patch it "
            f"alone, not with {names}, or with temporal=False, which remembers nothing."
        )
    return found[0][1] if found else None


def check_stages(stages: Sequence[Stage], facts: ModelFacts) -> None:
    """Raise a ValueError that says why stages cannot act where they want to."""
    for stage in stages:
        if not set(stage.modalities) & set(facts.modalities):
            raise ValueError(
                f"The method acts on {' and '.join(stage.modalities)}s only, and family {facts.family!r} takes "
                f"{' and '.join(facts.modalities)}s. Use a method for both, such as 'divprune' or 'vtc-cls'."
            )
        if isinstance(stage.at, Decoder):
            _check_cut(stage.at.layer, facts)
        if isinstance(stage.at, Encoder):
            _check_tower(stage.at.layer, stages, facts)


def _check_cut(layer: int, facts: ModelFacts) -> None:
    if not 0 < layer < facts.decoder_layers:
        raise ValueError(
            f"Cannot cut before decoder layer {layer}: the decoder has {facts.decoder_layers} layers, "
            f"choose 1 .. {facts.decoder_layers - 1}."
        )
    if facts.no_cuts:
        raise ValueError(
            f"Tokens of family {facts.family!r} cannot be dropped before decoder layer {layer}: "
            f"{facts.no_cuts}. Use a method that acts before the language model."
        )
    later = [i for i in facts.linear_layers if i >= layer]
    if later:
        raise ValueError(
            f"Decoder layers {later} are linear attention: their state mixes all tokens, so tokens cannot be "
            f"dropped before layer {layer}. Use a method that acts before the language model."
        )


def _check_tower(layer: int, stages: Sequence[Stage], facts: ModelFacts) -> None:
    if not 0 < layer <= facts.feature_layer:
        raise ValueError(f"Cannot prune before encoder layer {layer}: choose 1 .. {facts.feature_layer}.")
    late = [n for s in stages for n in s.needs if n.tower == "vision" and n.layer >= layer]
    if late:
        raise ValueError(f"Encoder layer {late[0].layer} is to be measured, but patches are gone from {layer} on.")
