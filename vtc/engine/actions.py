"""Where the queries that become actions have looked: summed over one policy call, handed to the method at its end."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from ..core.stage import Feedback, Need
from ..core.stats import AttentionCall, mean_rows
from . import cache as kv
from .attention_tap import start_collecting
from .call import Call, Group
from .layers import inverse
from .memory import State
from .seams import cache_of

if TYPE_CHECKING:
    from .decoder import DecoderEngine

STAT: Final = "actions"


def wanted(feedback: Feedback | None) -> list[Need]:
    """Measurements a feedback asks for."""
    return [] if feedback is None else [Need("decoder", layer, STAT) for layer in feedback.layers]


@dataclass
class Tally:
    """Attention of the action queries of one policy call to the visual tokens of every environment.

    ``columns`` LongTensor [B, M]: where the tokens lie in the full prompt, padded with -1; ``sizes``: tokens per row.
    """

    feedback: Feedback
    columns: Tensor
    sizes: dict[int, int]
    stops: Tensor | None = None
    cache: Any = None
    places: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Per layer: key column of every token [B, M], and whether it is there."""
    total: Tensor | None = None
    count: Tensor | None = None
    active: Tensor | None = None
    """Rows whose generation still runs: bool [B], None: all."""

    def follows(self, cache: Any) -> bool:
        """True when ``cache`` is the one this call's prompt has filled."""
        return cache is not None and self.cache is not None and self.cache() is cache

    def pick(self, layer: int, rows: Tensor, held: int | None) -> Tensor:
        """Attention of the tokens: ``rows`` [B, K] over keys brought to [B, M], 0 where a token was pruned before.

        ``held`` is the number of keys without a window; windows keep the last ones only. None: the keys lie at their
        places.
        """
        place, alive = (x.to(rows.device) for x in self.places[layer])
        gone = 0 if held is None else max(0, held - rows.shape[1])
        inside = alive & (place >= gone)
        return rows.gather(1, (place - gone).clamp(0, rows.shape[1] - 1)) * inside

    def add(self, shares: list[Tensor]) -> None:
        """Take in [B, M] per layer of one query, or of the mean of several that stand side by side."""
        for share in shares:
            flags = torch.ones(len(share), device=share.device) if self.active is None else self.active.to(share)
            share = share.float() * flags[:, None]
            # nothing in place: a call may begin in inference mode and end outside of it
            self.total = share if self.total is None else self.total + share.to(self.total.device)
            self.count = flags if self.count is None else self.count + flags.to(self.count.device)

    def drop(self, row: int) -> None:
        """Leave out an environment."""
        self.sizes.pop(row, None)

    def finish(self, state: State) -> None:
        """Hand the means to the method."""
        if self.total is None or self.count is None:
            return
        means = self.total / self.count.clamp_min(1)[:, None]
        for row, size in self.sizes.items():
            self.feedback.take(state.rows.setdefault(row, {}), means[row, :size].clone())


def stop_ids(given: Any) -> tuple[int, ...]:
    """End-of-sequence ids as a tuple."""
    if given is None:
        return ()
    return (given,) if isinstance(given, int) else tuple(int(i) for i in given)


class Actions:
    """Follows policy calls: notes their prompt, measures their queries, settles them."""

    def __init__(self, engine: DecoderEngine, feedback: Feedback | None) -> None:
        self.engine, self.feedback = engine, feedback

    @property
    def kind(self) -> str:
        """What asks for actions, see :class:`ModelFacts`."""
        return self.engine.owner.facts.actions

    def begin(self, call: Call, batch: int) -> None:
        """A prompt with images has arrived: the call before is over, and this one must fit to it.

        Raises
        ------
        ValueError
            Rows are repeated for beams or for several samples.
        """
        if self.feedback is None:
            return
        if call.expand > 1:
            raise ValueError(
                f"Every prompt stands {call.expand} times in the batch (beams or num_return_sequences): a policy has "
                "one row per environment. Generate greedily or sample one sequence."
            )
        assert call.real is not None
        rows = sorted({g.span.row for g in call.groups})
        groups = {row: [g for g in call.groups if g.span.row == row] for row in rows}
        self.engine.owner.state.begin({row: layout(call, groups[row]) for row in rows}, batch)
        sizes = {row: sum(g.span.unit.length for g in groups[row]) for row in rows}
        columns = torch.full((batch, max(sizes.values())), -1, dtype=torch.long, device=call.real.device)
        for row in rows:
            columns[row, : sizes[row]] = torch.cat([g.span.cols for g in groups[row]]).to(columns.device)
        call.tally = Tally(self.feedback, columns, sizes, stops=self._stops(columns.device))

    def _stops(self, device: torch.device) -> Tensor | None:
        """Ids that end generated actions: of the announced call, else the model's own."""
        own = getattr(getattr(self.engine.model, "generation_config", None), "eos_token_id", None)
        stops = self.engine.owner.state.stops or stop_ids(own)
        return torch.tensor(stops, device=device) if stops else None

    def prompt_share(self, attention: AttentionCall, layer: int, call: Call, end: int) -> Tensor:
        """Measure the queries that stand in the prompt itself: [B, M]."""
        assert call.tally is not None
        rows, counts = self._queries(call)
        shares = mean_rows(attention, rows.to(attention.q.device), counts.to(attention.q.device))
        call.tally.places[layer] = places(call, end)
        return call.tally.pick(layer, shares, None)

    def _queries(self, call: Call) -> tuple[Tensor, Tensor]:
        """Physical columns of the action queries in the prompt: the placeholders at its end, or its last token."""
        assert call.real is not None
        number = max(1, self.engine.adapter.action_length)
        rank = call.real.flip(1).long().cumsum(1).flip(1)  # the last real column is number 1
        chosen = call.real & (rank <= number)
        columns = torch.argsort(chosen.to(torch.int8), dim=1, stable=True)[:, -number:]
        packing = call.segments[-1].packing
        columns = columns if packing is None else inverse(packing).to(columns.device).gather(1, columns).clamp_min(0)
        return columns, torch.ones_like(columns, dtype=torch.bool)

    def end_prompt(self, call: Call) -> None:
        """The prompt went through: from now on its call waits for its next queries."""
        tally = call.tally
        if tally is None:
            return
        if self.kind == "expert":
            layers = getattr(call.past, "layers", ())
            for layer in tally.feedback.layers:
                tally.places[layer] = places(call, kv.stored(layers[layer]), layer)
        elif call.collector is not None:
            tally.add([values[-1] for need, values in call.collector.values.items() if need.stat == STAT])
        tally.cache = None if call.past is None else weakref.ref(call.past)
        self.engine.owner.state.pending = tally

    def resume(self, call: Call | None, kwargs: dict[str, Any]) -> None:
        """Begin to measure a decode step of a policy call; anything longer ends the call instead."""
        state: State = self.engine.owner.state
        cache = cache_of(kwargs)
        if self.feedback is None or self.kind != "generated" or call is None or state.pending is None:
            return
        tally: Tally = state.pending
        if not tally.follows(cache):
            return
        ids = call.inputs.get("input_ids")
        width = (ids if ids is not None else kwargs["inputs_embeds"]).shape[1]
        if width != 1:
            state.settle()
            return
        if ids is not None:
            self._note_stops(tally, ids[:, 0])
        call.tally = tally
        call.collector, call.collect_token = start_collecting(call)
        call.collector.only = STAT

    @staticmethod
    def _note_stops(tally: Tally, ids: Tensor) -> None:
        """Rows that are fed what ended them ask for nothing any more; the batch only waits for the others."""
        if tally.stops is not None:
            over = torch.isin(ids, tally.stops.to(ids.device))
            tally.active = ~over if tally.active is None else tally.active & ~over.to(tally.active.device)

    def step_share(self, attention: AttentionCall, layer: int, call: Call) -> Tensor:
        """Measure the one query of a decode step: [B, M]."""
        assert call.tally is not None
        first = torch.zeros(attention.q.shape[0], 1, dtype=torch.long, device=attention.q.device)
        shares = mean_rows(attention, first, torch.ones_like(first, dtype=torch.bool))
        return call.tally.pick(layer, shares, self._held(call, layer))

    @staticmethod
    def _held(call: Call, layer: int) -> int | None:
        """Keys a layer would hold without a window; None where it has none."""
        cache = call.tally.cache() if call.tally is not None and call.tally.cache is not None else None
        stored: Any = cache.layers[layer] if cache is not None else None
        if not getattr(stored, "is_sliding", False):
            return None
        return int(stored.cumulative_length) if hasattr(stored, "cumulative_length") else kv.stored(stored)

    def end_step(self, call: Call) -> None:
        """Take in what a decode step has measured."""
        if call.tally is not None and call.collector is not None:
            call.tally.add([values[-1] for values in call.collector.values.values()])

    def discard(self, call: Call) -> None:
        """A forward raised: nothing of its policy call is remembered."""
        state = self.engine.owner.state
        if call.tally is not None and state.pending is call.tally:
            state.pending = None


def layout(call: Call, groups: list[Group]) -> tuple:
    """Fingerprint of one row's prompt: its length, and the place and shape of every image."""
    assert call.real is not None
    row = groups[0].span.row
    real = call.real[row]
    first = int(real.long().argmax())
    shapes = tuple(
        (g.span.unit.modality, g.span.unit.length, g.span.unit.filled().part_grids, int(g.span.cols[0]) - first)
        for g in groups
    )
    return int(real.sum()), shapes


def places(call: Call, end: int, layer: int | None = None) -> tuple[Tensor, Tensor]:
    """Key columns of the visual tokens in a layer whose keys end at ``end``, and which of them are there: [B, M] each.

    ``layer`` None: the layer that runs now.
    """
    assert call.tally is not None
    segment = call.segments[-1] if layer is None else [s for s in call.segments if s.start <= layer][-1]
    columns = call.tally.columns
    alive = columns >= 0
    physical = columns
    if segment.packing is not None:
        physical = inverse(segment.packing).to(columns.device).gather(1, columns.clamp_min(0))
        alive = alive & (physical >= 0)
    return physical + (end - segment.width), alive
