"""See q and k of chosen attention modules under any attention implementation, the user's kernel untouched.

transformers looks the kernel up at every call, by ``module.config._attn_implementation``. A tapped module gets a view
of its config that answers with a name of ours while somebody collects; the function behind that name runs the user's
own kernel and then measures. Masks are built from the untouched config, ``set_attn_implementation`` keeps working, and
a ContextVar makes it safe for threads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..core.stage import Need
from ..core.stats import AttentionCall

PREFIX = "vtc_tap|"
Measure = Callable[[AttentionCall, "Collector"], Tensor]


@dataclass
class Collector:
    """What was measured while it was active: per need, the results in the order of the kernel calls."""

    values: dict[Need, list[Tensor]] = field(default_factory=dict)
    context: Any = None
    ahead: bool = False
    """The next kernel call is only measured, and ends with :class:`MeasuredAhead`."""
    only: str = ""
    """The one statistic to measure; empty: all that are asked for."""


class MeasuredAhead(Exception):
    """Leaves a layer that was entered for its queries and keys alone."""


_ACTIVE: ContextVar[Collector | None] = ContextVar("vtc_collector", default=None)
_LOCK = threading.Lock()
_NAMES: set[str] = set()
_LIVE: list[int] = [0]


@contextmanager
def collecting(context: Any = None) -> Iterator[Collector]:
    """Collect the measurements of all tapped modules that run inside."""
    collector = Collector(context=context)
    token = _ACTIVE.set(collector)
    try:
        yield collector
    finally:
        _ACTIVE.reset(token)


def start_collecting(context: Any) -> tuple[Collector, Any]:
    """Like :func:`collecting` for code in two hooks; end it with :func:`stop_collecting`."""
    collector = Collector(context=context)
    return collector, _ACTIVE.set(collector)


def stop_collecting(token: Any) -> None:
    """End what :func:`start_collecting` began."""
    _ACTIVE.reset(token)


def active() -> Collector | None:
    """Collector at work in this thread, None when nobody collects."""
    return _ACTIVE.get()


class ConfigView:
    """Reads and writes like the config behind it, but names the tapped kernel while somebody collects."""

    def __init__(self, config: Any, tap: AttentionTap) -> None:
        self.__dict__.update(vtc_inner=config, vtc_tap=tap)

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("vtc_inner")
        if inner is None or name.startswith("__"):
            raise AttributeError(name)
        return getattr(inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["vtc_inner"], name, value)

    @property
    def _attn_implementation(self) -> str | None:
        own = self.__dict__["vtc_inner"]._attn_implementation
        if torch.compiler.is_compiling() or _ACTIVE.get() is None:
            return own
        return _register(own or "eager")


def _register(base: str) -> str:
    name = PREFIX + base
    if name not in _NAMES:
        with _LOCK:
            # an instance entry, not AttentionInterface.register: that one could not be taken back
            ALL_ATTENTION_FUNCTIONS[name] = _tapped(base)
            _NAMES.add(name)
    return name


def _tapped(base: str) -> Callable:
    def forward(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        collector = _ACTIVE.get()
        token = _ACTIVE.set(None)  # flash code reads module.config again: it must find the user's choice
        try:
            if collector is not None and collector.ahead:
                ahead: Any = module.config
                ahead.vtc_tap.measure(query, key, attention_mask, kwargs, collector)
                raise MeasuredAhead
            kernel = ALL_ATTENTION_FUNCTIONS[base] if base in ALL_ATTENTION_FUNCTIONS else _eager(module)
            out = kernel(module, query, key, value, attention_mask, **kwargs)
            if collector is not None:
                view: Any = module.config
                view.vtc_tap.measure(query, key, attention_mask, kwargs, collector)
        finally:
            _ACTIVE.reset(token)
        return out

    return forward


def _eager(module: nn.Module) -> Callable:
    """Eager attention of the module's own modeling file, the way transformers resolves it."""
    return sys.modules[type(module).__module__].eager_attention_forward


class AttentionTap:
    """Measures one attention module.

    Parameters
    ----------
    module : nn.Module
        Has ``config`` and fetches its kernel through ``ALL_ATTENTION_FUNCTIONS``.
    measures : dict of Need to callable
        ``measure(call, collector) -> Tensor``, run under ``no_grad`` after the kernel.
    ahead : dict of Need to callable
        The same for calls that end before the kernel.
    """

    def __init__(
        self, module: nn.Module, measures: dict[Need, Measure], ahead: dict[Need, Measure] | None = None
    ) -> None:
        self.module, self.measures, self.ahead = module, measures, ahead or {}
        self._set(ConfigView(module.config, self))
        with _LOCK:
            _LIVE[0] += 1

    def remove(self) -> None:
        """Put the config back; the last tap of the process takes our names out of the table."""
        config = self.module.config
        if isinstance(config, ConfigView):
            self._set(config.vtc_inner)
        with _LOCK:
            _LIVE[0] = max(0, _LIVE[0] - 1)
            if _LIVE[0] <= 0:
                for name in _NAMES:
                    del ALL_ATTENTION_FUNCTIONS[name]
                _NAMES.clear()

    def _set(self, config: Any) -> None:
        self.module.__dict__["config"] = config

    @torch.no_grad()
    def measure(self, query: Tensor, key: Tensor, mask: Any, kwargs: dict[str, Any], collector: Collector) -> None:
        """Run the measures on one kernel call and append the results."""
        call = describe(self.module, query, key, mask, kwargs)
        for need, fn in (self.ahead if collector.ahead else self.measures).items():
            if collector.only and need.stat != collector.only:
                continue
            collector.values.setdefault(need, []).append(fn(call, collector))


def describe(module: nn.Module, query: Tensor, key: Tensor, mask: Any, kwargs: dict[str, Any]) -> AttentionCall:
    """Put what a kernel was called with into an :class:`AttentionCall`."""
    scaling = kwargs.get("scaling")
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    bounds = kwargs.get("cu_seq_lens_q")
    if not isinstance(mask, Tensor):
        mask = None
    if mask is None and causal and key.shape[2] > query.shape[2] > 1:
        key = key[:, :, : query.shape[2]]  # an empty static cache: the rest of its slots are blank
    return AttentionCall(
        q=query,
        k=key,
        scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        mask=mask,
        causal=bool(causal) and query.shape[2] > 1,
        window=kwargs.get("sliding_window"),
        softcap=kwargs.get("softcap"),
        segments=None if bounds is None else tuple((bounds[1:] - bounds[:-1]).tolist()),
    )
