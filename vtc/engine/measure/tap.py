"""See q and k of chosen attention modules under any attention implementation, the user's kernel untouched.

transformers looks the kernel up at every call, by ``module.config._attn_implementation``. A tapped module gets a view
of its config that answers with a name of ours while somebody collects; the function behind that name runs the user's
own kernel and then measures. Masks are built from the untouched config, ``set_attn_implementation`` keeps working, and
a ContextVar makes it safe for threads.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...core.stage import Need
from ...core.statistics import AttentionCall
from ..scope import Scope
from ..seams import BlockMask, Mask, block_rows, eagerly, find, kernels
from ..wrapping import Wrapped

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


_ACTIVE: Scope[Collector | None] = Scope("vtc_collector", None)
_LOCK = threading.RLock()  # a tap may die, and say so, while this thread holds it
_NAMES: set[str] = set()
_LIVE: set[int] = set()


@contextmanager
def collecting(context: Any = None, only: str = "") -> Iterator[Collector]:
    """Collect the measurements of all tapped modules that run inside; whatever ends it, it is over."""
    collector = Collector(context=context, only=only)
    with _ACTIVE.bind(collector):
        yield collector


def nobody_collects() -> AbstractContextManager[Collector | None]:
    """Hide whoever collects from what runs inside."""
    return _ACTIVE.bind(None)


def active() -> Collector | None:
    """Collector at work in this thread, None when nobody collects."""
    return _ACTIVE.get()


class ConfigView:
    """Reads and writes like the config behind it, but names the tapped kernel while somebody collects."""

    def __init__(self, config: object, tap: AttentionTap) -> None:
        self.__dict__.update(vtc_inner=config, vtc_tap=tap)

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("vtc_inner")
        if inner is None or name.startswith("__"):
            raise AttributeError(name)
        return getattr(inner, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__["vtc_inner"], name, value)

    @property
    def _attn_implementation(self) -> str | None:
        own = self.__dict__["vtc_inner"]._attn_implementation
        if torch.compiler.is_compiling() or _ACTIVE.get() is None:
            return own
        return _register(own or "eager", self.__dict__["vtc_tap"])


def _register(base: str, tap: AttentionTap) -> str:
    name = PREFIX + base
    if name not in _NAMES or id(tap) not in _LIVE:
        with _LOCK:
            if id(tap) not in _LIVE:  # a copy that deepcopy or pickle has made
                _live(tap)
            # an instance entry, not AttentionInterface.register: that one could not be taken back
            kernels()[name] = partial(_tapped, base)
            _NAMES.add(name)
    return name


def _live(tap: AttentionTap) -> None:
    _LIVE.add(id(tap))
    weakref.finalize(tap, _gone, id(tap)).atexit = False


def is_ours(name: str) -> bool:
    """True for a kernel that stands in transformers' table for patched models that are alive."""
    return bool(_LIVE) and name.startswith(PREFIX)


def _gone(tap: int) -> None:
    """The last tap of the process takes our names out of transformers' table."""
    with _LOCK:
        _LIVE.discard(tap)
        if not _LIVE:
            for name in _NAMES:
                kernels().pop(name, None)
            _NAMES.clear()


def _tapped(
    base: str, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Mask, **kwargs: Any
) -> Any:
    collector = _ACTIVE.get()
    with nobody_collects():  # flash code reads module.config again: it must find the user's choice
        view: Any = module.config
        tap = getattr(view, "vtc_tap", None) if isinstance(view, ConfigView) else None
        if collector is not None and collector.ahead and tap is not None:
            tap.measure(query, key, attention_mask, kwargs, collector)
            raise MeasuredAhead
        kernel = kernels()[base] if base in kernels() else _eager(module)
        out = kernel(module, query, key, value, attention_mask, **kwargs)
        if collector is not None and tap is not None:
            tap.measure(query, key, attention_mask, kwargs, collector)
    return out


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
        self.own = "config" in module.__dict__
        self.seat = Wrapped(module, "forward", _uncompiled)

    def sit(self) -> None:
        """Stand between the module and its config."""
        self._set(ConfigView(self.module.config, self))
        self.seat.sit()
        with _LOCK:
            _live(self)

    def remove(self) -> None:
        """Put the config back."""
        self.seat.remove()
        config = self.module.config
        if isinstance(config, ConfigView) and config.__dict__["vtc_tap"] is self:
            self._set(config.__dict__["vtc_inner"])
            if not self.own:
                del self.module.__dict__["config"]
        _gone(id(self))

    def _set(self, config: object) -> None:
        self.module.__dict__["config"] = config

    @torch.no_grad()
    def measure(self, query: Tensor, key: Tensor, mask: Mask, kwargs: dict[str, Any], collector: Collector) -> None:
        """Run the measures on one kernel call and append the results."""
        call = describe(self.module, query, key, mask, kwargs)
        for need, fn in (self.ahead if collector.ahead else self.measures).items():
            if collector.only not in ("", need.stat):
                continue
            collector.values.setdefault(need, []).append(fn(call, collector))


def finite(call: AttentionCall) -> bool:
    """True when no query and no key is NaN or infinite: attention computed from such is noise."""
    return bool(torch.isfinite(call.q).all() & torch.isfinite(call.k).all())


def _uncompiled(seat: Wrapped, args: tuple, kwargs: dict[str, Any]) -> object:
    """Attention under ``torch.compile``: a prompt must be seen by the tap, so its graph breaks; a step need not."""
    if not torch.compiler.is_compiling():
        return seat.original(*args, **kwargs)
    rows = args[0] if args else next(iter(kwargs.values()))
    if isinstance(rows, Tensor) and rows.ndim == 3 and rows.shape[1] == 1:
        return seat.original(*args, **kwargs)
    return eagerly(seat.original, *args, **kwargs)


def describe(module: nn.Module, query: Tensor, key: Tensor, mask: Mask, kwargs: Mapping[str, Any]) -> AttentionCall:
    """Put what a kernel was called with into an :class:`AttentionCall`.

    Raises
    ------
    ValueError
        A mask of a kind that cannot be read.
    """
    scaling = find("scaling", kwargs)
    causal = find("is_causal", kwargs)
    causal = getattr(module, "is_causal", True) if causal is None else causal
    bounds = find("flash_bounds", kwargs)
    rows: Tensor | Callable[[Tensor], Tensor] | None
    if isinstance(mask, BlockMask):
        rows = partial(block_rows, mask, keys=key.shape[2])
    elif mask is None or isinstance(mask, Tensor):
        rows = mask
    else:
        raise ValueError(
            f"The attention of {type(module).__name__} is masked by a {type(mask).__name__}, which cannot be read. "
            "Load the model with attn_implementation='sdpa', or choose a method that reads no attention."
        )
    if mask is None and causal and key.shape[2] > query.shape[2] > 1:
        key = key[:, :, : query.shape[2]]  # an empty static cache: the rest of its slots are blank
    return AttentionCall(
        q=query,
        k=key,
        scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        mask=rows,
        causal=bool(causal) and query.shape[2] > 1,
        window=find("window", kwargs),
        softcap=find("softcap", kwargs),
        segments=None if bounds is None else tuple((bounds[1:] - bounds[:-1]).tolist()),
    )
