"""Watch ``get_image_features`` and ``get_video_features``: geometry and statistics travel with their output."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vtc.adapters import EncodeRecord, FeatureCall

from ..core.layout import Unit
from .checks import check_features
from .clock import Clock
from .forward import current
from .measure.tap import AttentionTap, collecting
from .measure.vision import of_pixels, wanted
from .patch import Patch
from .plan import Plan
from .seams import parameters
from .site import Site
from .tower import TowerRun, TowerSpan, measured, tower_run, tower_runs
from .wrapping import Undo, Wrapped

RECORD = "vtc_record"


class Features:
    """Taps on the vision tower and wrappers around the feature methods of the base model.

    Parameters
    ----------
    handle : Patch
    site : Site
    plan : Plan
        Its outline says what to hook.
    """

    def __init__(self, handle: Patch, site: Site, plan: Plan) -> None:
        self.handle, self.site = handle, site
        self.needs = plan.needs("vision")
        adapter, model = site.adapter, site.model
        modalities = [m for m in adapter.modalities if adapter.tower(model, m) is not None]
        self.spans = [TowerSpan(handle, site, plan, modality) for modality in modalities]
        self.seam = adapter.frame_seam(model) if any(s.unpooled for s in plan.stages) else None

    def install(self, undo: Undo) -> None:
        """Wrap the feature methods; tap the layers that are needed."""
        for modality in self.site.adapter.modalities:
            name = f"get_{modality}_features"
            if hasattr(type(self.site.base), name) or name in self.site.base.__dict__:
                undo.wrap(self.site.base, name, Encode(self, modality))
        for module, measures in wanted(self.site.adapter, self.site.model, self.needs).items():
            undo.add(AttentionTap(module, measures))
        for span in self.spans:
            span.install(undo)
        if self.seam is not None:
            undo.behind(self.seam.module, self._note_frames)

    def _note_frames(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        """Keep the frames of a video as they pass the seam."""
        run = tower_run()
        if run is not None and run.call.modality == "video" and self.seam is not None:
            run.frames = self.seam.grids(args[0] if self.seam.takes == "input" else output)

    def encode(self, seat: Wrapped, modality: str, args: tuple, kwargs: dict[str, Any]) -> object:
        """Run the model's own feature method and attach a record to its output."""
        if self.handle.off or tower_run() is not None:  # some video methods call the image method
            return seat.original(*args, **kwargs)
        bound = {**dict(zip(parameters(seat.original), args, strict=False)), **kwargs}
        tensor = next((v for v in bound.values() if isinstance(v, Tensor)), None)
        clock = Clock(tensor.device if tensor is not None else torch.device("cpu"))
        clock.start("vision")
        forward = current(self.handle)
        plan = self.handle.plan() if forward is None else forward.plan
        run = TowerRun(FeatureCall(modality, bound), plan)
        with tower_runs(run), collecting() as collector:
            output = seat.original(*args, **{**kwargs, "return_dict": True})
        clock.stop("vision")
        check_features(output, modality, type(self.site.base))
        call = FeatureCall(modality, bound, output)
        units, stats = self._measured(call, collector.values, plan)
        record = EncodeRecord(modality, units, stats, clock, run.alive, run.frames)
        setattr(output, RECORD, record)
        if forward is None:
            self.handle.loose.note(record, output)
        else:
            forward.images.records.append(record)
        return output.to_tuple() if kwargs.get("return_dict") is False else output

    def _measured(self, call: FeatureCall, values: dict[Any, list[Tensor]], plan: Plan) -> tuple[list[Unit], dict]:
        units, stats = measured(self.site, call, values)
        for need in [n for n in self.needs if n.statistic.source == "pixels"]:
            processor = next((m.processor for m in plan.methods if m.processor is not None), None)
            stats[need] = of_pixels(self.site.adapter, self.site.model, call, need, processor)
        return units, stats


class Encode:
    """Body of one wrapped feature method."""

    def __init__(self, features: Features, modality: str) -> None:
        self.features, self.modality = features, modality

    def __call__(self, seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
        """Encode."""
        return self.features.encode(seat, self.modality, args, kwargs)
