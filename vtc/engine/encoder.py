"""Watch ``get_image_features`` and ``get_video_features``: geometry and statistics travel with their output."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vtc.adapters import Adapter, EncodeRecord, FeatureCall

from ..core.entropy import row_entropy
from ..core.focus import focus_of_call
from ..core.stage import Need, Stage
from ..core.stats import AttentionCall, class_row, received
from .attention_tap import AttentionTap, Collector, collecting
from .call import current
from .clock import Clock
from .span import RUN, TowerRun, TowerSpan, measured

RECORD = "vtc_record"
ENGINE = "_vtc_encoder"


def _class_row(call: AttentionCall, need: Need, skip: int) -> Tensor:
    return class_row(call)


def _received(call: AttentionCall, need: Need, skip: int) -> Tensor:
    return received(call)


def _focus(call: AttentionCall, need: Need, skip: int) -> Tensor:
    return focus_of_call(call, float(need.option), skip)  # type: ignore[arg-type]


VISION_MEASURES: dict[str, Callable[[AttentionCall, Need, int], Tensor]] = {
    "class_row": _class_row,
    "received": _received,
    "focus": _focus,
}


class EncoderEngine:
    """Taps on the vision tower and wrappers around the feature methods of the base model."""

    def __init__(self, model: nn.Module, adapter: Adapter, stages: list[Stage], owner: Any) -> None:
        self.model, self.adapter, self.owner = model, adapter, owner
        self.needs = list(dict.fromkeys(n for s in stages for n in s.needs if n.tower == "vision"))
        modalities = [m for m in adapter.modalities if adapter.tower(model, m) is not None]
        self.spans = [TowerSpan(model, adapter, stages, owner, m) for m in modalities]
        self.base = adapter.base(model)
        self.seam = adapter.frame_seam(model) if any(s.unpooled for s in stages) else None
        self.handles: list[Any] = []
        self.taps: list[AttentionTap] = []
        self.names: list[str] = []
        self.enabled = True

    def install(self) -> None:
        """Wrap the feature methods; tap the layers that are needed."""
        for modality in self.adapter.modalities:
            name = f"get_{modality}_features"
            if hasattr(type(self.base), name):
                wrapped = _wrap(getattr(type(self.base), name), modality, self)
                # an instance attribute bound to the base model: deepcopy rebinds it, `del` restores the class method
                self.base.__dict__[name] = types.MethodType(wrapped, self.base)
                self.names.append(name)
        self.base.__dict__[ENGINE] = self
        for module, measures in self._wanted().items():
            self.taps.append(AttentionTap(module, measures))
        for span in self.spans:
            span.install()
        if self.seam is not None:
            self.handles.append(self.seam.module.register_forward_hook(self._note_frames))

    def remove(self) -> None:
        """Undo :meth:`install`."""
        while self.handles:
            self.handles.pop().remove()
        for span in self.spans:
            span.remove()
        for tap in reversed(self.taps):
            tap.remove()
        for name in self.names:
            self.base.__dict__.pop(name, None)
        self.base.__dict__.pop(ENGINE, None)
        self.taps.clear()
        self.names.clear()

    def _note_frames(self, module: nn.Module, args: tuple, output: Any) -> None:
        """Keep the frames of a video as they pass the seam."""
        run = RUN.get()
        if run is not None and run.call.modality == "video" and self.enabled and self.seam is not None:
            run.frames = self.seam.grids(args[0] if self.seam.takes == "input" else output)

    def _wanted(self) -> dict[nn.Module, dict[Need, Any]]:
        wanted: dict[nn.Module, dict[Need, Any]] = {}
        skip = int(bool(self.needs) and self.adapter.has_class_token(self.model))
        for modality in self.adapter.modalities:
            blocks = self.adapter.tower_blocks(self.model, modality)
            for need in self.needs:
                if need.stat == "entropy":
                    continue  # read from the pixels, not from a layer
                module = self.adapter.attention(blocks[need.layer]) if need.layer < len(blocks) else None
                if module is None:
                    raise ValueError(f"No attention module at encoder layer {need.layer} of {self.adapter.family!r}.")
                if need.stat not in VISION_MEASURES:
                    raise ValueError(f"The encoder can measure {sorted(VISION_MEASURES)}, not {need.stat!r}.")
                wanted.setdefault(module, {})[need] = functools.partial(_measure, need, skip)
        return wanted

    def encode(self, fn: Callable, base: nn.Module, modality: str, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run the model's own feature method and attach a record to its output."""
        if not self.enabled or RUN.get() is not None:  # some video methods call the image method
            return fn(base, *args, **kwargs)
        names = inspect.signature(fn).parameters
        bound = {**dict(zip([n for n in names if n != "self"], args, strict=False)), **kwargs}
        tensor = next((v for v in bound.values() if isinstance(v, Tensor)), None)
        clock = Clock(tensor.device if tensor is not None else torch.device("cpu"))
        clock.start("vision")
        run = TowerRun(FeatureCall(modality, bound))
        token = RUN.set(run)
        try:
            with collecting() as collector:
                output = fn(base, *args, **{**kwargs, "return_dict": True})
        finally:
            RUN.reset(token)
        clock.stop("vision")
        call = FeatureCall(modality, bound, output)
        units, stats = measured(self.model, self.adapter, call, collector.values)
        stats |= {n: self._entropy(call, n) for n in self.needs if n.stat == "entropy"}
        record = EncodeRecord(modality, units, stats, clock, run.alive, run.frames)
        setattr(output, RECORD, record)
        inside = current(self.owner)
        if inside is not None:
            inside.records.append(record)
        return output.to_tuple() if kwargs.get("return_dict") is False else output

    @torch.no_grad()
    def _entropy(self, call: FeatureCall, need: Need) -> Tensor:
        """Softmax over each crop or frame of the entropy of the pixels behind its patches."""
        processor = next((m.processor for m in self.owner.methods if m.processor is not None), None)
        images = getattr(processor, "image_processor", processor)
        mean, std = getattr(images, "image_mean", None), getattr(images, "image_std", None)
        if need.option != "wrapped" and (mean is None or std is None):
            raise ValueError(
                "The entropy of patches is taken from the 8-bit image, which needs the processor's mean and standard "
                "deviation: pass processor=... to vtc.patch."
            )
        mode: Any = need.option or "paper"
        scale = (mode, mean or (0.5,) * 3, std or (0.5,) * 3)
        shares = [torch.softmax(row_entropy(p, *scale), 0) for p in self.adapter.patch_pixels(self.model, call)]
        return self.adapter.place_pixels(self.model, call, need, shares)


def _measure(need: Need, skip: int, call: AttentionCall, collector: Collector) -> Tensor:
    return VISION_MEASURES[need.stat](call, need, skip)


def _wrap(fn: Callable, modality: str, engine: EncoderEngine) -> Callable:
    @functools.wraps(fn)  # generate picks the arguments by signature
    def wrapped(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return engine_of(self, engine).encode(fn, self, modality, args, kwargs)

    return wrapped


def engine_of(base: nn.Module, made_for: EncoderEngine) -> EncoderEngine:
    """Engine of ``base``: after ``deepcopy`` the copy carries its own."""
    return base.__dict__.get(ENGINE, made_for)
