"""Brute force: full-length, cache-free forwards in which dropped tokens are masked out, layer by layer."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from inspect import signature
from typing import Any

import tiny
import torch
from torch import Tensor

from vtc.core.stage import Decoder, ModelFacts, Need, Projector, Selection, Stage, View
from vtc.methods.base import Method


@dataclass(kw_only=True)
class Norms(Method):
    """Keep the rows of largest norm: depends on content, not on the batch; optional cuts before decoder layers."""

    name = "test-norms"
    summary = "test"
    cuts: tuple[tuple[int, float], ...] = ()
    before: bool = True
    positions: str = "keep"
    scope: str = "image"

    def stages(self, facts: ModelFacts) -> list[Stage]:
        stages = [Stage(Projector(), self.select, self.keep_count, positions=self.positions)] if self.before else []
        for layer, share in self.cuts:
            count = lambda n, share=share: max(1, round(share * n))  # noqa: E731
            stages.append(Stage(Decoder(layer), self.select, count, scope=self.scope, positions=self.positions))
        return stages

    def select(self, view: View) -> Selection:
        scores = view.features.float().norm(dim=-1)
        return Selection(scores.sort(descending=True, stable=True).indices[: view.budget].sort().values, scores=scores)


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


def visual_columns(inputs: dict[str, Tensor], record: Any) -> list[tuple[Any, Tensor]]:
    """Columns of every image in the record, recomputed from the ids alone."""
    found, used = [], {}
    for log in record.images:
        token = tiny.VID if log.modality == "video" and bool((inputs["input_ids"] == tiny.VID).any()) else tiny.IMG
        columns = (inputs["input_ids"][log.row] == token).nonzero()[:, 0]
        start = used.get((log.row, token), 0)
        found.append((log, columns[start : start + log.before]))
        used[log.row, token] = start + log.before
    return found


def alive_by_layer(inputs: dict[str, Tensor], record: Any, layers: int) -> Tensor:
    """Bool [layers, B, L]: columns that exist in each decoder layer."""
    shape = inputs["input_ids"].shape
    alive = torch.ones(layers, *shape, dtype=torch.bool)
    for log, columns in visual_columns(inputs, record):
        for start, kept in log.cuts:
            alive[start:, log.row, columns] = False
            alive[start:, log.row, columns[kept]] = True
    return alive & inputs["attention_mask"].bool()


@contextmanager
def masked(model: Any, alive: Tensor, rope: dict[int, Tensor] | None = None):
    """Hide the keys that are not alive in each layer; ``rope`` replaces the positions from a layer on.

    Sliding windows count the tokens that are there, so the model's own are switched off and counted here; what else the
    base model has put into finished masks (images that attend both ways) is kept.
    """
    decoder = model.get_decoder()
    config, handles = decoder.config, []
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None) or [None] * len(decoder.layers)
    if window is not None:
        config.sliding_window = 10**6
    for i, layer in enumerate(decoder.layers):
        sliding = window is not None and kinds[i] in (None, "sliding_attention")
        positions = next((rope[k] for k in sorted(rope, reverse=True) if k <= i), None) if rope else None
        hook = partial(_hide, decoder, i, alive[i], window if sliding else None, positions)
        handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if window is not None:
            config.sliding_window = window


def _hide(decoder: Any, index: int, alive: Tensor, window: Any, positions: Any, module: Any, args: Any, kwargs: Any):
    given, dtype = kwargs["attention_mask"], args[0].dtype
    if given is None:
        seen = torch.ones(1, 1, *alive.shape[1:] * 2, dtype=torch.bool).tril()
    else:
        seen = given if given.dtype == torch.bool else given == 0
    place = alive.long().cumsum(1)
    if window is not None:
        both = seen & seen.transpose(-1, -2)  # images that attend both ways do so beyond the window
        seen = seen & (both | (place[:, None, :, None] - place[:, None, None, :] < window))
    seen = seen & alive[:, None, None, :]
    kwargs["attention_mask"] = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -1e30)
    if positions is not None:
        rotary = decoder.rotary_emb
        kind = [decoder.config.layer_types[index]] if "layer_type" in signature(rotary.forward).parameters else []
        kwargs["position_embeddings"] = rotary(args[0], positions, *kind)
    return args, kwargs


def positions_of(inputs: dict[str, Tensor], steps: int) -> Tensor:
    """1-D positions as ``generate`` makes them, extended by new tokens."""
    mask = inputs["attention_mask"]
    first = (mask.cumsum(1) - 1).clamp_min(0) * mask
    return torch.cat([first, first[:, -1:] + torch.arange(1, steps + 1)], 1)


def renumbered(inputs: dict[str, Tensor], alive: Tensor, steps: int, first: bool = False) -> dict[int, Tensor]:
    """Contiguous positions per layer: original ones minus the dropped columns before them; ``first``: only those
    dropped before the language model."""
    base = positions_of(inputs, steps)
    real = inputs["attention_mask"].bool()
    out = {}
    for i in range(alive.shape[0]):
        gone = (real & ~alive[0 if first else i]).long().cumsum(1)
        gone = torch.cat([gone, gone[:, -1:].expand(-1, steps)], 1)
        out[i] = base - gone
    return out


@torch.no_grad()
def oracle_logits(
    model: Any, inputs: dict[str, Tensor], record: Any, new: Tensor, renumber: bool | str = False
) -> Tensor:
    """Logits [B, T, V] for the next token after the prompt and after each of ``new`` [B, T] but the last."""
    first = int("PaliGemma" in type(model).__name__)  # its positions start at 1, and new tokens see causally
    layers = len(model.get_decoder().layers)
    steps = new.shape[1] - 1
    alive = alive_by_layer(inputs, record, layers)
    rope = renumbered(inputs, alive, steps, renumber == "first") if renumber else None
    rope = {k: v + first for k, v in rope.items()} if rope else None
    alive = torch.cat([alive, torch.ones(*alive.shape[:2], steps, dtype=torch.bool)], 2)
    full = dict(inputs)
    full["input_ids"] = torch.cat([inputs["input_ids"], new[:, :steps]], 1)
    full["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(new[:, :steps])], 1)
    if "mm_token_type_ids" in full:
        full["mm_token_type_ids"] = torch.cat([full["mm_token_type_ids"], torch.zeros_like(new[:, :steps])], 1)
    if not hasattr(model.model, "get_rope_index"):
        full["position_ids"] = positions_of(inputs, steps) + first
    if "token_type_ids" in full:
        last = full["token_type_ids"][:, -1:].expand(-1, steps) if first == 0 else torch.ones_like(new[:, :steps])
        full["token_type_ids"] = torch.cat([full["token_type_ids"], last], 1)
    with masked(model, alive, rope):
        logits = model(**full, use_cache=False).logits
    return logits[:, inputs["input_ids"].shape[1] - 1 :]


def to_double(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


@torch.no_grad()
def generate(model: Any, inputs: dict[str, Tensor], **options: Any) -> Any:
    return model.generate(**inputs, **{**tiny.GENERATE, **options}, return_dict_in_generate=True, output_logits=True)


def new_tokens(out: Any, inputs: dict[str, Tensor]) -> Tensor:
    return out.sequences[:, inputs["input_ids"].shape[1] :]


def new_tokens_of(sequences: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    return sequences[:, inputs["input_ids"].shape[1] :]
