"""Run later blocks of a vision tower on fewer patches: gather at block j, scatter behind the block of the features."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from vtc.adapters import EncodeRecord, FeatureCall

from ..core.image import ImageRecord, Place
from ..core.layout import Packing, Unit
from ..core.stage import FrameGrids
from ..core.tokens import TokenLayout, full
from .clock import Clock
from .decide import Deciding
from .forward import Forward, Images
from .measure.tap import active
from .patch import Patch
from .plan import Plan
from .scope import Scope
from .seams import Arguments, eagerly, tower_mask
from .site import Site
from .types import Called
from .wrapping import Undo


class TowerRun:
    """One pass through a tower: what was kept, and side inputs already adapted.

    A tower that packs all images into one sequence ``[N, D]`` is a batch of one row here.
    """

    def __init__(self, call: FeatureCall, plan: Plan) -> None:
        self.call, self.plan = call, plan
        self.frames: FrameGrids | None = None
        self.alive: Tensor | None = None
        self.packing: Packing | None = None
        self.flat = False
        self.memo: dict[Any, Any] = {}

    def take(self, x: Tensor) -> Tensor:
        """Rows of the patches that are left: of ``[N, ...]`` where the tower packs, else of ``[B, N, ...]``."""
        packing = self.gather()
        if self.flat or x.ndim < 3:
            return packing.take(x[None], dim=1)[0]
        return packing.take(x, dim=1)

    def gather(self) -> Packing:
        """Packing of a pass whose cut has been made."""
        if self.packing is None:
            raise RuntimeError("No patch of this pass was dropped.")
        return self.packing

    def once(self, kind: str, source: object, make: Callable[[], Any]) -> Any:
        """Adapt a side input the first time it is seen."""
        key = (kind, id(source))
        if key not in self.memo:
            self.memo[key] = (source, make())  # the source is held, so its id is not used again
        return self.memo[key][1]


_RUN: Scope[TowerRun | None] = Scope("vtc_tower_run", None)


def tower_run() -> TowerRun | None:
    """Pass that runs in this thread."""
    return _RUN.get()


def tower_runs(run: TowerRun) -> AbstractContextManager[TowerRun | None]:
    """Make ``run`` the pass of this thread; whatever ends it, it is over."""
    return _RUN.bind(run)


class TowerSpan:
    """Hooks for the encoder stages of one tower."""

    def __init__(self, handle: Patch, site: Site, plan: Plan, modality: str) -> None:
        self.handle, self.site, self.modality = handle, site, modality
        self.cuts = sorted(plan.tower)

    def install(self, undo: Undo) -> None:
        """Pre-hooks on the blocks from the first cut to the one that makes the features, which scatters.

        Raises
        ------
        ValueError
            More than one cut, or one behind the features.
        """
        if not self.cuts:
            return
        adapter, model = self.site.adapter, self.site.model
        blocks = adapter.tower_blocks(model, self.modality)
        last = adapter.feature_layer(model, len(blocks))
        if len(self.cuts) > 1 or self.cuts[0] > last:
            raise ValueError(f"One encoder cut at a layer <= {last} is supported, got layers {self.cuts}.")
        for i in range(self.cuts[0], last + 1):
            undo.before(blocks[i], Block(self, i), with_kwargs=True)
        # prepended: transformers' own hooks that collect hidden states must see the full length
        undo.behind(blocks[last], self.scatter, prepend=True)

    def running(self) -> TowerRun | None:
        """The pass of this thread, if it is one through this tower."""
        run = tower_run()
        return run if run is not None and run.call.modality == self.modality else None

    def enter(self, index: int, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Called | None:
        """Cut before a block, or give it the side inputs of the patches that are left."""
        run = self.running()
        if run is None:
            return None
        given = Arguments(module, args, kwargs)  # some towers pass masks by position
        given.positional = True
        if index in self.cuts:
            given.hidden = self._cut(run, index, given.hidden)
        if run.alive is None:
            return None
        self._serve(run, given)
        return given.call()

    def _cut(self, run: TowerRun, index: int, hidden: Tensor) -> Tensor:
        shape = (1, hidden.shape[0]) if hidden.ndim == 2 else (hidden.shape[0], hidden.shape[1])
        call = FeatureCall(self.modality, run.call.kwargs, None, shape)
        patches = self.site.adapter.patch_index(self.site.model, call).to(hidden.device)
        rows = hidden.reshape(-1, hidden.shape[-1])[patches.clamp_min(0)].mean(1)
        # A feature row made of several patches is judged by their mean and leaves with all of them.
        rows = rows.masked_fill((patches[:, :1] < 0), 0)  # a newline row is the same everywhere
        alive = self._decide(run, call, index, rows)
        if bool(alive.all()):
            return hidden
        keep = torch.ones(shape[0] * shape[1], dtype=torch.bool, device=hidden.device)
        gone = patches[~alive].reshape(-1)
        keep[gone[gone >= 0]] = False
        # A packed sequence without a batch dimension is a batch of one row: then borders between images have to follow.
        run.alive, run.flat = alive, hidden.ndim == 2
        run.packing = Packing.build(keep.view(shape))
        return run.take(hidden)

    def _decide(self, run: TowerRun, call: FeatureCall, index: int, rows: Tensor) -> Tensor:
        """Let the stages choose among the feature rows as one row of a batch: bool [rows]."""
        collector = active()
        units, stats = measured(self.site, call, {} if collector is None else collector.values)
        # The same decision as in the decoder, on a forward that lives as long as it takes: no cache, no text, one row.
        places, start = [], 0
        for number, unit in enumerate(units):
            columns = torch.arange(start, start + unit.length, device=rows.device)
            log = ImageRecord(0, number, call.modality, unit)
            places.append(Place(unit, 0, columns, 0, start, columns - start, log))
            start += unit.length
        images = Images(records=[EncodeRecord(call.modality, units, stats)], places=places)
        forward = Forward(self.handle, Clock(rows.device), run.plan, images=images)
        every = full(1, rows.shape[0], rows.device)
        forward.layout = TokenLayout(every, every)
        for stage in run.plan.tower[index]:
            Deciding(forward, stage, rows[None], None, self.handle.row_state).run(index)
        alive = torch.zeros(rows.shape[0], dtype=torch.bool, device=rows.device)
        for place in places:
            alive[place.columns[place.alive]] = True
        return alive

    def _serve(self, run: TowerRun, given: Arguments) -> None:
        """Side inputs of a block for the patches that are left."""
        rope, places, mask = given["rotary"], given["positions"], given["mask"]
        if rope is not None:
            given["rotary"] = run.once("rotary", rope, lambda: tuple(run.take(x) for x in rope))
        if isinstance(places, Tensor):
            given["positions"] = run.once("positions", places, lambda: run.take(places))
        if run.flat:
            self._shorten(run, given)
            return
        packing = run.gather()
        if given["flash_bounds"] is not None:
            raise ValueError("Encoder pruning of packed images under flash attention is not supported; load with sdpa.")
        if isinstance(mask, Tensor) and mask.ndim == 4:
            given["mask"] = run.once("mask", mask, lambda: packing.take_mask(mask))
        elif packing.valid is not None:
            config: Any = getattr(self.site.adapter.tower(self.site.model, self.modality), "config", None)
            valid, hidden = packing.valid, given.hidden
            given["mask"] = run.once("mask", packing, lambda: tower_mask(config, hidden, valid))

    @staticmethod
    def _shorten(run: TowerRun, given: Arguments) -> None:
        """Borders of the packed sequences after the cut; emptied ones vanish."""
        bounds = given["bounds"]

        def shorten() -> tuple[Tensor, int]:
            kept = run.gather().taken()[0]
            count = torch.nn.functional.pad(kept.long().cumsum(0), (1, 0))
            short = torch.unique_consecutive(count[bounds.long()]).to(bounds.dtype)
            return short, int((short[1:] - short[:-1]).max())

        given["bounds"], longest = run.once("bounds", bounds, shorten)
        if given["longest"] is not None:
            given["longest"] = longest

    def scatter(self, module: nn.Module, args: tuple, output: Tensor | tuple) -> object:
        """Put the rows back where they were; dropped patches are 0 and feed nothing that is used."""
        if torch.compiler.is_compiling():
            return eagerly(self._scatter, output)
        return self._scatter(output)

    def _scatter(self, output: Tensor | tuple) -> object:
        run = self.running()
        if run is None or run.alive is None:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        packing = run.gather()
        rows = packing.restore(hidden[None], "zero")[0] if run.flat else packing.restore(hidden, "zero")
        return (rows, *output[1:]) if isinstance(output, tuple) else rows


class Block:
    """Pre-hook of one block."""

    def __init__(self, span: TowerSpan, index: int) -> None:
        self.span, self.index = span, index

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Called | None:
        """Enter the block; a compiled one breaks its graph here."""
        if torch.compiler.is_compiling():
            return eagerly(self.span.enter, self.index, module, args, kwargs)
        return self.span.enter(self.index, module, args, kwargs)


def measured(site: Site, call: FeatureCall, values: dict[Any, list[Tensor]]) -> tuple[list[Unit], dict[Any, Tensor]]:
    """Geometry of a feature call, and what was measured in it as one value per feature row."""
    adapter, model = site.adapter, site.model
    units, stats = adapter.units(model, call), {}
    for need, raw in values.items():
        stats[need] = adapter.carry(model, call, need, raw)
        for unit, parts in zip(units, adapter.part_stats(model, call, need, raw), strict=False):
            unit.info.setdefault("part_stats", {})[need] = parts
    return units, stats
