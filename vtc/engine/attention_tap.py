"""Old place of :mod:`vtc.engine.measure.tap`; its names stay here for one release."""

from __future__ import annotations

from .measure.tap import PREFIX, AttentionTap, Collector, MeasuredAhead, active, collecting, describe
from .seams import kernels

ALL_ATTENTION_FUNCTIONS = kernels()

__all__ = [
    "ALL_ATTENTION_FUNCTIONS",
    "PREFIX",
    "AttentionTap",
    "Collector",
    "MeasuredAhead",
    "active",
    "collecting",
    "describe",
]
