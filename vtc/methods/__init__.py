"""Registry of the methods: every module of this package that holds a :class:`Method` is one, found by file name."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ..core.words import kind, nearest, shown
from .base import Method
from .scorer import BeforeLLM, Cut, InsideLLM

if TYPE_CHECKING:  # for editors and type checkers; at run time a method is imported when it is asked for
    from .cdpruner import CDPruner
    from .divprune import DivPrune
    from .evs import EVS
    from .fastv import FastV
    from .gleanvid import GleanVID
    from .hired import HiRED
    from .holov import HoloV
    from .mmtok import MMTok
    from .pool import Pool
    from .pyramiddrop import PyramidDrop
    from .quota import Quota
    from .random import Random
    from .scope import SCOPE
    from .todre import ToDRE
    from .transprune import TransPrune
    from .vcast import VCAST
    from .vflowopt import VFlowOpt
    from .vidcom2 import VidCom2
    from .visionzip import VisionZip
    from .vispruner import VisPruner
    from .vla_pruner import VLAPruner
    from .vscan import VScan
    from .vtc_cls import VTCCLS

_HELPERS = {"base", "docs", "scorer"}


@functools.cache
def _modules() -> dict[str, str]:
    names = (m.name for m in pkgutil.iter_modules(__path__))
    return {n.replace("_", "-"): f"{__name__}.{n}" for n in names if n not in _HELPERS and not n.startswith("_")}


@functools.cache
def _plugins() -> dict[str, Any]:
    return {e.name: e for e in entry_points(group="vtc.methods")}


def list_methods() -> list[str]:
    """Names of all methods, built in and from installed packages (entry point group ``vtc.methods``), sorted."""
    return sorted({*_modules(), *_plugins()})


def method_class(name: str) -> type[Method]:
    """Class of the method ``name``.

    Raises
    ------
    ValueError
        No such method; the message offers the nearest names.
    TypeError
        No name at all.
    """
    if not isinstance(name, str):
        raise TypeError(f"method={shown(name)} is {kind(name)}; pass the name of a method.")
    return _class(str(name))


@functools.cache
def _class(name: str) -> type[Method]:
    key = name.lower().replace("_", "-")
    if key in _modules():
        module = importlib.import_module(_modules()[key])
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if (
                issubclass(cls, Method)
                and cls.__module__.startswith(module.__name__)
                and getattr(cls, "name", None) == key
            ):
                return cls
        raise ImportError(f"{module.__name__} defines no Method named {key!r}")
    if key in _plugins():
        return _plugins()[key].load()
    hint = nearest(key, list_methods())
    raise ValueError(f"Unknown method {shown(name)}.{hint} Installed: {', '.join(list_methods())} (see `vtc methods`).")


def make_method(name: str, **options: Any) -> Method:
    """Build a method from its name and hyperparameters.

    Raises
    ------
    ValueError
        Unknown method or value out of range.
    TypeError
        Unknown hyperparameter (the message lists the known ones), or a value of another type than the declared one.
    """
    cls = method_class(name)
    _refuse_unknown(cls, options)
    return cls(**options)


def read_options(name: str, texts: dict[str, Any]) -> dict[str, Any]:
    """Values of hyperparameters from text, each as its declared type says; see :func:`vtc.core.texts.reread`.

    Raises
    ------
    ValueError
        Unknown method, or text that is no value of the hyperparameter.
    TypeError
        Unknown hyperparameter; the message lists the known ones.
    """
    cls = method_class(name)
    _refuse_unknown(cls, texts)
    return {key: cls.read_option(key, text) for key, text in texts.items()}


def _refuse_unknown(cls: type[Method], options: Iterable[str]) -> None:
    unknown = sorted(set(options) - set(cls.options()))
    if unknown:
        hint = nearest(unknown[0], cls.options())
        raise TypeError(
            f"Method {cls.name!r} has no option {shown(unknown[0])}.{hint} It has: {', '.join(cls.options())}."
        )


def __getattr__(name: str) -> type[Method]:
    """Give ``vtc.methods.VTCCLS`` and the like without importing every method at start."""
    for method in _modules() if name in __all__ else ():
        if _class(method).__name__ == name:
            return _class(method)
    raise AttributeError(f"vtc.methods has no {name!r}.{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "BeforeLLM",
    "CDPruner",
    "Cut",
    "DivPrune",
    "EVS",
    "FastV",
    "GleanVID",
    "HiRED",
    "HoloV",
    "InsideLLM",
    "MMTok",
    "Method",
    "Pool",
    "PyramidDrop",
    "Quota",
    "Random",
    "SCOPE",
    "ToDRE",
    "TransPrune",
    "VCAST",
    "VFlowOpt",
    "VLAPruner",
    "VScan",
    "VTCCLS",
    "VidCom2",
    "VisPruner",
    "VisionZip",
    "list_methods",
    "make_method",
    "method_class",
    "read_options",
]
