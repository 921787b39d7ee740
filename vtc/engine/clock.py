"""Time parts of a forward without stopping the device."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Clock:
    """Accumulates named spans: wall clock on CPU, CUDA events on a GPU, read only when somebody asks."""

    device: torch.device
    _open: dict[str, Any] = field(default_factory=dict)
    _closed: dict[str, list[Any]] = field(default_factory=dict)

    def _now(self) -> float | torch.cuda.Event:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def start(self, name: str) -> None:
        """Begin a span."""
        self._open[name] = self._now()

    def stop(self, name: str) -> None:
        """End the span begun last under this name."""
        begun = self._open.pop(name, None)
        if begun is not None:
            self._closed.setdefault(name, []).append((begun, self._now()))

    def include(self, other: Clock) -> None:
        """Take over the closed spans of another clock."""
        for name, spans in other._closed.items():
            self._closed.setdefault(name, []).extend(spans)

    def seconds(self) -> dict[str, float]:
        """Seconds per name; waits for the device when events are pending."""
        return {name: sum(_length(a, b) for a, b in spans) for name, spans in self._closed.items()}


def _length(begun: Any, ended: Any) -> float:
    if isinstance(begun, float):
        return ended - begun
    ended.synchronize()
    return begun.elapsed_time(ended) / 1000.0
