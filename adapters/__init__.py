"""One declarative file per model family; the registry finds them by file name."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points

from torch import nn

from vtc.core.words import deprecated, kind, nearest, shown

from ._anyres import Anyres
from ._frames import ClassFrames, InterpolatedFrames, PooledFrames
from ._grid import Grid
from ._merged import Merged, MergedSizes
from ._plain import Plain
from ._policy import PROMPT, PolicyAdapter
from ._positioned import Positioned
from .base import Adapter
from .generic import GenericAdapter
from .geometry import Encoder, EncodeRecord, FeatureCall, Geometry

AdapterChoice = str | Adapter | type[Adapter] | None

_HELPERS = {"base", "generic"}


@functools.cache
def list_adapters() -> list[Adapter]:
    """Adapters of all families, built in and from installed packages (entry point group ``vtc.adapters``)."""
    classes = {e.load() for e in entry_points(group="vtc.adapters")}
    for module in pkgutil.iter_modules(__path__):
        if module.name in _HELPERS or module.name.startswith("_"):
            continue
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            if issubclass(cls, Adapter) and cls.__module__ == loaded.__name__ and cls.model_types:
                classes.add(cls)
    return sorted((cls() for cls in classes), key=lambda a: a.family)


def list_families() -> list[str]:
    """Names of the families vtc knows; others that follow transformers' conventions go through the generic adapter."""
    return [a.family for a in list_adapters()]


def list_models() -> list[str]:
    """Old name of :func:`list_families`."""
    deprecated("list_models() lists families and is called list_families() now; the old name goes in the next release.")
    return list_families()


def find_adapter(model: nn.Module) -> Adapter:
    """Adapter for a model, by ``config.model_type``; the generic one when the family is not listed.

    Raises
    ------
    TypeError
        Not a vision-language model that transformers' conventions describe; the message says what is missing.
    """
    kind = getattr(getattr(model, "config", None), "model_type", None)
    for adapter in list_adapters():
        if kind in adapter.model_types:
            return adapter
    return fitting(GenericAdapter(), model, f"Known families: {', '.join(list_families())}.")


def choose_adapter(model: nn.Module, chosen: AdapterChoice = None) -> Adapter:
    """Adapter that was asked for.

    Parameters
    ----------
    model : nn.Module
    chosen : str, Adapter or class of one, optional
        Name of a family (or a ``model_type``), an adapter of one's own, or its class; None: :func:`find_adapter`.

    Raises
    ------
    ValueError
        No family of that name.
    TypeError
        Something else was passed, or the model lacks what the adapter looks for; the message says what.
    """
    if chosen is None:
        return find_adapter(model)
    return fitting(as_adapter(chosen), model, "Pass the adapter of its family, or leave adapter= out.")


def as_adapter(chosen: AdapterChoice, said: str = "adapter=") -> Adapter:
    """Turn a name or a class into an adapter; ``said`` stands before it in messages."""
    if isinstance(chosen, str):
        known = {name: a for a in (*list_adapters(), GenericAdapter()) for name in (a.family, *a.model_types)}
        if chosen not in known:
            names = ", ".join([*list_families(), GenericAdapter.family])
            raise ValueError(f"Unknown family {said}{shown(chosen)}.{nearest(chosen, known)} Known: {names}.")
        return known[chosen]
    if isinstance(chosen, type) and issubclass(chosen, Adapter):
        try:
            return chosen()
        except TypeError as error:
            raise TypeError(
                f"adapter={chosen.__name__} cannot be made without arguments ({error}): pass an object of it."
            ) from None
    if isinstance(chosen, Adapter):
        return chosen
    raise TypeError(
        f"adapter={shown(chosen)} is {kind(chosen)}; pass the name of a family (vtc.list_families()), an object of a "
        "class below vtc.adapters.Adapter, or that class."
    )


def fitting(adapter: Adapter, model: nn.Module, remedy: str) -> Adapter:
    """Return the adapter, if the model has what it looks for."""
    missing = adapter.missing(model)
    if not missing:
        return adapter
    which = getattr(getattr(model, "config", None), "model_type", None)
    how = "" if isinstance(adapter, GenericAdapter) else f" as family {adapter.family!r}"
    raise TypeError(
        f"{type(model).__name__} (model_type {which!r}) is not a vision-language model vtc can patch{how}: it has no "
        f"{', no '.join(missing)}. {remedy}"
    )


__all__ = [
    "PROMPT",
    "Adapter",
    "AdapterChoice",
    "Anyres",
    "ClassFrames",
    "EncodeRecord",
    "Encoder",
    "FeatureCall",
    "Geometry",
    "Grid",
    "InterpolatedFrames",
    "Merged",
    "MergedSizes",
    "Plain",
    "PolicyAdapter",
    "PooledFrames",
    "Positioned",
    "as_adapter",
    "choose_adapter",
    "find_adapter",
    "list_adapters",
    "list_families",
    "list_models",
]
