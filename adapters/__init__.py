"""One declarative file per model family; the registry finds them by file name."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points

from torch import nn

from .base import Adapter, EncodeRecord, FeatureCall

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


def list_models() -> list[str]:
    """Names of the families vtc knows; others that follow transformers' conventions go through the generic adapter."""
    return [a.family for a in list_adapters()]


def find_adapter(model: nn.Module) -> Adapter:
    """Adapter for a model, by ``config.model_type``; the generic one when the family is not listed.

    Raises
    ------
    TypeError
        Not a vision-language model that transformers' conventions describe; the message says what is missing.
    """
    from .generic import GenericAdapter

    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", None)
    for adapter in list_adapters():
        if kind in adapter.model_types:
            return adapter
    generic = GenericAdapter()
    missing = generic.missing(model)
    if missing:
        raise TypeError(
            f"{type(model).__name__} (model_type {kind!r}) is not a vision-language model vtc can patch: it has no "
            f"{', no '.join(missing)}. Known families: {', '.join(list_models())}."
        )
    return generic


__all__ = ["Adapter", "EncodeRecord", "FeatureCall", "find_adapter", "list_adapters", "list_models"]
