"""vtc: cut the visual tokens of Hugging Face vision-language models.

>>> import vtc
>>> handle = vtc.patch(model, "vtc-cls", keep=0.25)   # doctest: +SKIP
>>> out = model.generate(**inputs)                    # doctest: +SKIP
>>> print(handle.report())                            # doctest: +SKIP
>>> vtc.unpatch(model)                                # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from vtc.adapters import find_adapter, list_families

    from . import media, methods, video, viz
    from .config import Config, load
    from .core.columns import Columns
    from .engine.handle import Handle
    from .methods import list_methods
    from .patching import patch, patched, unpatch

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.exists(os.path.join(_ROOT, "pyproject.toml")) and os.path.isdir(os.path.join(_ROOT, "adapters")):
    # run from a checkout: adapters, kernels, eval and demos lie beside this folder instead of inside it
    __path__.append(_ROOT)

# name -> module that defines it; imported on first use so that `import vtc` costs nothing
_LAZY = {
    "patch": ".patching",
    "unpatch": ".patching",
    "patched": ".patching",
    "Handle": ".engine.handle",
    "Columns": ".core.columns",
    "Config": ".config",
    "load": ".config",
    "list_methods": ".methods",
    "list_families": ".adapters",
    "list_models": ".adapters",  # old name of list_families
    "find_adapter": ".adapters",
}
_MODULES = {"methods", "media", "video", "viz", "adapters", "kernels", "eval", "demos", "report"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'vtc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_LAZY, *_MODULES, "__version__"])


__all__ = [
    "Columns",
    "Config",
    "Handle",
    "__version__",
    "find_adapter",
    "list_families",
    "list_methods",
    "load",
    "media",
    "methods",
    "patch",
    "patched",
    "unpatch",
    "video",
    "viz",
]
