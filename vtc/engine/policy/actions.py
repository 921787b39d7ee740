"""Where the queries that become actions have looked: summed over one policy call, handed to the method at its end."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from ...core.image import Place
from ...core.stage import Feedback, Need
from ...core.statistics import AttentionCall
from ...core.statistics.rows import mean_rows
from .. import cache as kv
from ..forward import Forward
from ..listener import Listener
from ..measure.context import end_of_keys
from ..measure.tap import Collector
from ..types import Cache
from ..wrapping import Undo
from .calls import wrap_calls
from .expert import watch_expert
from .memory import Remembers
from .state import State

if TYPE_CHECKING:
    from ..site import Site

STAT: Final = "actions"


def wanted(feedback: Feedback) -> list[Need]:
    """Measurements a feedback asks for."""
    return [Need("decoder", layer, STAT) for layer in feedback.layers]


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

    def follows(self, cache: object) -> bool:
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


def stop_ids(given: int | Iterable[int] | None) -> tuple[int, ...]:
    """End-of-sequence ids as a tuple."""
    if given is None:
        return ()
    return (given,) if isinstance(given, int) else tuple(int(i) for i in given)


class Actions(Listener):
    """Follows policy calls: notes their prompt, measures their queries, settles them.

    Parameters
    ----------
    handle : Remembers
    site : Site
    feedback : Feedback
        What the method wants to hear.
    """

    def __init__(self, handle: Remembers, site: Site, feedback: Feedback) -> None:
        self.handle, self.site, self.feedback = handle, site, feedback
        self.kind = site.facts.actions

    def measures(self) -> dict[Need, Callable]:
        """Attention of the action queries in the decoder's own layers."""
        if self.kind == "expert":
            return {}
        return {need: functools.partial(self._share, need) for need in wanted(self.feedback)}

    def install(self, undo: Undo) -> None:
        """Watch the calls that make up a policy call, and an expert's queries."""
        if self.kind == "expert":
            watch_expert(self, wanted(self.feedback), undo)
        wrap_calls(self, undo)

    def tally(self, forward: Forward) -> Tally:
        """Tally of the policy call a forward belongs to."""
        return forward.notes[Actions]

    def prompt(self, forward: Forward) -> None:
        """A prompt with images has arrived: the call before is over, and this one must fit to it.

        Raises
        ------
        ValueError
            Rows are repeated for beams or for several samples.
        """
        images, layout = forward.images, forward.tokens
        if images.expand > 1:
            raise ValueError(
                f"Every prompt stands {images.expand} times in the batch (beams or num_return_sequences): a policy has "
                "one row per environment. Generate greedily or sample one sequence."
            )
        rows = sorted({p.row for p in images.places})
        places = {row: [p for p in images.places if p.row == row] for row in rows}
        self.handle.state.begin({row: fingerprint(forward, places[row]) for row in rows}, layout.batch)
        sizes = {row: sum(p.unit.length for p in places[row]) for row in rows}
        columns = torch.full((layout.batch, max(sizes.values())), -1, dtype=torch.long, device=layout.real.device)
        for row in rows:
            columns[row, : sizes[row]] = torch.cat([p.columns for p in places[row]]).to(columns.device)
        feedback = forward.plan.feedback or self.feedback
        forward.notes[Actions] = Tally(feedback, columns, sizes, stops=self._stops(columns.device))

    def _stops(self, device: torch.device) -> Tensor | None:
        """Ids that end generated actions: of the announced call, else the model's own."""
        own = getattr(getattr(self.site.model, "generation_config", None), "eos_token_id", None)
        stops = self.handle.state.stops or stop_ids(own)
        return torch.tensor(stops, device=device) if stops else None

    def _share(self, need: Need, attention: AttentionCall, collector: Collector) -> Tensor:
        forward = collector.context
        if collector.only:
            return self._of_step(attention, need.layer, forward)
        return self._of_prompt(attention, need.layer, forward, end_of_keys(forward, need.layer, attention.k.shape[2]))

    def _of_prompt(self, attention: AttentionCall, layer: int, forward: Forward, end: int) -> Tensor:
        """Measure the queries that stand in the prompt itself: [B, M]."""
        rows, counts = self._queries(forward)
        shares = mean_rows(attention, rows.to(attention.q.device), counts.to(attention.q.device))
        tally = self.tally(forward)
        tally.places[layer] = places_of(forward, tally, end)
        return tally.pick(layer, shares, None)

    def _queries(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Physical columns of the action queries in the prompt: the placeholders at its end, or its last token."""
        layout = forward.tokens
        number = max(1, self.site.adapter.policy.action_length)
        rank = layout.real.flip(1).long().cumsum(1).flip(1)  # the last real column is number 1
        chosen = layout.real & (rank <= number)
        columns = torch.argsort(chosen.to(torch.int8), dim=1, stable=True)[:, -number:]
        return layout.place(columns), torch.ones_like(columns, dtype=torch.bool)

    def prompted(self, forward: Forward) -> None:
        """The prompt went through: from now on its call waits for its next queries."""
        tally, cache, collector = self.tally(forward), forward.past.cache, forward.meter.collector
        if self.kind == "expert":
            layers = getattr(cache, "layers", ())
            for layer in tally.feedback.layers:
                tally.places[layer] = places_of(forward, tally, kv.stored(layers[layer]), layer)
        elif collector is not None:
            tally.add([values[-1] for need, values in collector.values.items() if need.statistic.source == "feedback"])
        tally.cache = None if cache is None else weakref.ref(cache)
        self.handle.state.pending = tally

    def step(self, forward: Forward, cache: Cache | None) -> str:
        """Begin to measure a decode step of a policy call; anything longer ends the call instead."""
        state: State = self.handle.state
        if self.kind != "generated" or state.pending is None or not state.pending.follows(cache):
            return ""
        prompt, tally = forward.prompt, state.pending
        rows = prompt.ids if prompt.ids is not None else prompt.embeds
        if rows is None or rows.shape[1] != 1:
            state.settle()
            return ""
        if prompt.ids is not None:
            self._note_stops(tally, prompt.ids[:, 0])
        forward.notes[Actions] = tally
        return STAT

    @staticmethod
    def _note_stops(tally: Tally, ids: Tensor) -> None:
        """Rows that are fed what ended them ask for nothing any more; the batch only waits for the others."""
        if tally.stops is not None:
            over = torch.isin(ids, tally.stops.to(ids.device))
            tally.active = ~over if tally.active is None else tally.active & ~over.to(tally.active.device)

    def _of_step(self, attention: AttentionCall, layer: int, forward: Forward) -> Tensor:
        """Measure the one query of a decode step: [B, M]."""
        tally = self.tally(forward)
        first = torch.zeros(attention.q.shape[0], 1, dtype=torch.long, device=attention.q.device)
        shares = mean_rows(attention, first, torch.ones_like(first, dtype=torch.bool))
        return tally.pick(layer, shares, self._held(tally, layer))

    @staticmethod
    def _held(tally: Tally, layer: int) -> int | None:
        """Keys a layer would hold without a window; None where it has none."""
        cache = tally.cache() if tally.cache is not None else None
        stored: Any = cache.layers[layer] if cache is not None else None
        if not getattr(stored, "is_sliding", False):
            return None
        return int(stored.cumulative_length) if hasattr(stored, "cumulative_length") else kv.stored(stored)

    def stepped(self, forward: Forward) -> None:
        """Take in what a decode step has measured."""
        tally, collector = forward.notes.get(Actions), forward.meter.collector
        if tally is not None and collector is not None:
            tally.add([values[-1] for values in collector.values.values()])

    def fail(self, forward: Forward) -> None:
        """A forward raised: nothing of its policy call is remembered."""
        state, tally = self.handle.state, forward.notes.get(Actions)
        if tally is not None and state.pending is tally:
            state.pending = None


def fingerprint(forward: Forward, places: list[Place]) -> tuple:
    """Fingerprint of one row's prompt: its length, and the place and shape of every image."""
    real = forward.tokens.real[places[0].row]
    first = int(real.long().argmax())
    shapes = tuple(
        (p.unit.modality, p.unit.length, p.unit.filled().part_grids, int(p.columns[0]) - first) for p in places
    )
    return int(real.sum()), shapes


def places_of(forward: Forward, tally: Tally, end: int, layer: int | None = None) -> tuple[Tensor, Tensor]:
    """Key columns of the visual tokens in a layer whose keys end at ``end``, and which of them are there: [B, M] each.

    ``layer`` None: the layer that runs now.
    """
    layout = forward.tokens
    segment = layout.now if layer is None else layout.at(layer)
    alive = tally.columns >= 0
    physical = tally.columns
    if segment.packing is not None:
        physical = segment.packing.places().to(physical.device).gather(1, physical.clamp_min(0))
        alive = alive & (physical >= 0)
    return physical + (end - segment.width), alive
