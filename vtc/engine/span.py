"""Run later blocks of a vision tower on fewer patches: gather at block j, scatter behind the block of the features."""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask

from vtc.adapters import Adapter, FeatureCall

from ..core.layout import Packing, Unit, VisualSpan
from ..core.stage import Encoder, FrameGrids, Stage
from .attention_tap import active
from .call import Call, Group
from .clock import Clock
from .record import SpanLog
from .selecting import run_stage

RUN: ContextVar[Any] = ContextVar("vtc_tower_run", default=None)


class TowerRun:
    """One pass through the tower: what was kept, and side inputs already adapted."""

    def __init__(self, call: FeatureCall) -> None:
        self.call = call
        self.frames: FrameGrids | None = None
        self.alive: Tensor | None = None
        self.packing: Packing | None = None
        self.flat: Tensor | None = None
        self.shape: torch.Size | None = None
        self.memo: dict[Any, Any] = {}


class TowerSpan:
    """Hooks for the encoder stages of one tower."""

    def __init__(self, model: nn.Module, adapter: Adapter, stages: list[Stage], owner: Any, modality: str) -> None:
        self.model, self.adapter, self.owner, self.modality = model, adapter, owner, modality
        self.cuts: dict[int, list[Stage]] = {}
        for stage in stages:
            if isinstance(stage.at, Encoder):
                self.cuts.setdefault(stage.at.layer, []).append(stage)
        self.handles: list[Any] = []

    def install(self) -> None:
        """Pre-hooks on the blocks from the first cut to the one that makes the features, which scatters."""
        if not self.cuts:
            return
        blocks = self.adapter.tower_blocks(self.model, self.modality)
        last = self.adapter.feature_layer(self.model, len(blocks))
        if len(self.cuts) > 1 or min(self.cuts) > last:
            raise ValueError(f"One encoder cut at a layer <= {last} is supported, got layers {sorted(self.cuts)}.")
        start = min(self.cuts)
        for i in range(start, last + 1):
            pre = functools.partial(self._pre, i)
            self.handles.append(blocks[i].register_forward_pre_hook(pre, with_kwargs=True))
        # prepended: transformers' own hooks that collect hidden states must see the full length
        self.handles.append(blocks[last].register_forward_hook(self._scatter, prepend=True))

    def remove(self) -> None:
        """Remove the hooks."""
        while self.handles:
            self.handles.pop().remove()

    def _pre(self, index: int, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Any:
        run = RUN.get()
        if run is None or run.call.modality != self.modality:
            return None
        names = [n for n in inspect.signature(type(module).forward).parameters if n != "self"]
        kwargs = {**dict(zip(names, args, strict=False)), **kwargs}  # some towers pass masks by position
        hidden = kwargs[names[0]]
        if index in self.cuts:
            hidden = self._cut(run, index, hidden)
        if run.alive is None:
            return None
        kwargs = self._side_inputs(run, kwargs, hidden)
        del kwargs[names[0]]
        return (hidden,), kwargs

    def _cut(self, run: TowerRun, index: int, hidden: Tensor) -> Tensor:
        shape = (1, hidden.shape[0]) if hidden.ndim == 2 else (hidden.shape[0], hidden.shape[1])
        call = FeatureCall(self.modality, run.call.kwargs, None, shape)
        patches = self.adapter.patch_index(self.model, call).to(hidden.device)
        rows = hidden.reshape(-1, hidden.shape[-1])[patches.clamp_min(0)].mean(1)
        rows = rows.masked_fill((patches[:, :1] < 0), 0)  # a newline row is the same everywhere
        alive = self._decide(run, call, index, rows)
        if bool(alive.all()):
            return hidden
        keep = torch.ones(shape[0] * shape[1], dtype=torch.bool, device=hidden.device)
        gone = patches[~alive].reshape(-1)
        keep[gone[gone >= 0]] = False
        run.alive, run.shape = alive, hidden.shape
        if hidden.ndim == 2:
            run.flat = keep
            return hidden[keep]
        run.packing = Packing.build(keep.view(shape))
        return run.packing.take(hidden)

    def _decide(self, run: TowerRun, call: FeatureCall, index: int, rows: Tensor) -> Tensor:
        collector = active()
        units, stats = measured(self.model, self.adapter, call, {} if collector is None else collector.values)
        groups, start = [], 0
        for number, unit in enumerate(units):
            columns = torch.arange(start, start + unit.length, device=rows.device)
            span = VisualSpan(0, number, unit, columns, start, 0)
            groups.append(Group(span, columns - start, SpanLog(0, number, call.modality, unit)))
            start += unit.length
        state = Call(owner=self, engine=self.owner, clock=Clock(rows.device), groups=groups)
        state.records = [_Stats(stats)]
        state.real = torch.ones(1, rows.shape[0], dtype=torch.bool, device=rows.device)
        for stage in self.cuts[index]:
            run_stage(state, stage, index, rows[None], None, self.owner.row_state)
        alive = torch.zeros(rows.shape[0], dtype=torch.bool, device=rows.device)
        for g in groups:
            alive[g.span.cols[g.alive]] = True
        return alive

    def _side_inputs(self, run: TowerRun, kwargs: dict[str, Any], hidden: Tensor) -> dict[str, Any]:
        rope = kwargs.get("position_embeddings")
        if rope is not None:
            kwargs["position_embeddings"] = self._memo(
                run, "rope", rope, lambda: tuple(self._rows(run, x) for x in rope)
            )
        places = kwargs.get("position_ids")
        if isinstance(places, Tensor):
            kwargs["position_ids"] = self._memo(run, "places", places, lambda: self._rows(run, places))
        if run.flat is not None:
            return self._flat_lengths(run, kwargs)
        packing, mask = run.packing, kwargs.get("attention_mask")
        assert packing is not None
        if kwargs.get("cu_seq_lens_q") is not None:
            raise ValueError("Encoder pruning of packed images under flash attention is not supported; load with sdpa.")
        if isinstance(mask, Tensor) and mask.ndim == 4:
            kwargs["attention_mask"] = self._memo(run, "mask", mask, lambda: packing.take_mask(mask))
        elif packing.valid is not None:
            config: Any = getattr(self.adapter.tower(self.model, self.modality), "config", None)
            kwargs["attention_mask"] = self._memo(
                run,
                "mask",
                packing,
                lambda: create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=packing.valid),
            )
        return kwargs

    def _rows(self, run: TowerRun, x: Tensor) -> Tensor:
        if run.flat is not None:
            return x[run.flat.to(x.device)]
        assert run.packing is not None
        return run.packing.take(x, dim=1) if x.ndim == 3 else run.packing.take(x[None], dim=1)[0]

    def _flat_lengths(self, run: TowerRun, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Borders of the packed sequences after the cut; emptied ones vanish."""
        bounds = kwargs["cu_seqlens"]

        def shorten() -> tuple[Tensor, int]:
            assert run.flat is not None
            count = torch.nn.functional.pad(run.flat.long().cumsum(0), (1, 0))
            short = torch.unique_consecutive(count[bounds.long()]).to(bounds.dtype)
            return short, int((short[1:] - short[:-1]).max())

        kwargs["cu_seqlens"], longest = self._memo(run, "bounds", bounds, shorten)
        if kwargs.get("max_seqlen") is not None:
            kwargs["max_seqlen"] = longest
        return kwargs

    @staticmethod
    def _memo(run: TowerRun, kind: str, source: Any, make: Any) -> Any:
        key = (kind, id(source))
        if key not in run.memo:
            run.memo[key] = (source, make())  # the source is held, so its id is not used again
        return run.memo[key][1]

    def _scatter(self, module: nn.Module, args: tuple, output: Any) -> Any:
        run = RUN.get()
        if run is None or run.alive is None or run.call.modality != self.modality:
            return None
        hidden = output[0] if isinstance(output, tuple) else output
        assert run.shape is not None
        full = hidden.new_zeros(run.shape)
        if run.flat is not None:
            full[run.flat] = hidden
        else:
            packing = run.packing
            assert packing is not None
            valid = torch.ones_like(packing.index, dtype=torch.bool) if packing.valid is None else packing.valid
            row, column = valid.nonzero(as_tuple=True)
            full[row, packing.index[row, column]] = hidden[row, column]
        # blocks behind this one feed nothing that is used; their side inputs are full length again
        return (full, *output[1:]) if isinstance(output, tuple) else full


def measured(
    model: nn.Module, adapter: Adapter, call: FeatureCall, values: dict[Any, list[Tensor]]
) -> tuple[list[Unit], dict[Any, Tensor]]:
    """Geometry of a feature call, and what was measured in it as one value per feature row."""
    units, stats = adapter.units(model, call), {}
    for need, raw in values.items():
        stats[need] = adapter.carry(model, call, need, raw)
        for unit, parts in zip(units, adapter.part_stats(model, call, need, raw), strict=False):
            unit.info.setdefault("part_stats", {})[need] = parts
    return units, stats


class _Stats:
    """Stands in for an encode record while the tower still runs."""

    def __init__(self, stats: dict[Any, Tensor]) -> None:
        self.stats = stats
