"""The product's reference by masking under the names the tests use, a method that reads attention, and helpers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vtc.core.stage import Decoder, ModelFacts, Need, Selection, Stage, View
from vtc.methods.base import Method
from vtc.proof.masking import alive_by_layer, masked, positions_of, visual_columns
from vtc.proof.masking import masked_logits as oracle_logits
from vtc.proof.probes import Norms

from support import tiny

__all__ = [
    "LastQuery",
    "Norms",
    "alive_by_layer",
    "generate",
    "masked",
    "new_tokens",
    "new_tokens_of",
    "oracle_logits",
    "positions_of",
    "to_double",
    "visual_columns",
]


@dataclass(kw_only=True)
class LastQuery(Method):
    """A FastV-like cut: attention of the last prompt token in layer k - 1 ranks what enters layer k."""

    name = "test-last-query"
    summary = "test"
    layers: tuple[int, ...] = (2,)
    rows: str = "last"
    positions: str = "keep"
    seen: dict = field(default_factory=dict)

    def stages(self, facts: ModelFacts) -> list[Stage]:
        return [self._stage(layer) for layer in self.layers]

    def _stage(self, layer: int) -> Stage:
        need = Need("decoder", layer - 1, "query_rows", self.rows)

        def select(view: View) -> Selection:
            scores = view.stats[need]
            self.seen.setdefault(layer, {})[view.row] = scores
            return Selection(
                scores.sort(descending=True, stable=True).indices[: view.budget].sort().values, scores=scores
            )

        return Stage(Decoder(layer), select, self.keep_count, (need,), "row", self.positions)


def to_double(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Tensor], **options: Any) -> Any:
    return model.generate(**inputs, **{**tiny.GENERATE, **options}, return_dict_in_generate=True, output_logits=True)


def new_tokens(out: Any, inputs: dict[str, Tensor]) -> Tensor:
    return out.sequences[:, inputs["input_ids"].shape[1] :]


def new_tokens_of(sequences: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    return sequences[:, inputs["input_ids"].shape[1] :]
