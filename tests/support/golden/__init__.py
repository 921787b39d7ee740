"""One checker per kind of golden file: ``check(arrays)``, raising AssertionError with what differs.

Every module of this package names its kinds in ``KINDS``; what lies in the folders and has no checker yet stands in
``PENDING``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]
Checker = Callable[[Arrays], None]

_MODULES = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
CHECKERS: dict[str, Checker] = {kind: check for m in _MODULES for kind, check in getattr(m, "KINDS", {}).items()}

PENDING = {
    "dart",
    "dycoke_ttm",
    "fastvid_onevision",
    "fastvid_qwen",
    "flashvid_compress",
    "framefusion_steps",
    "holitom_inner",
    "holitom_outer",
    "pixelprune",
    "prumerge",
    "prunesid",
    "sparsevlm",
    "tops",
}
"""Kinds of methods that are not here yet."""


def kind_of(stem: str) -> str:
    """Kind of a file: its name, without a last ``_suffix`` unless the whole name is a kind."""
    return stem if stem in CHECKERS or stem in PENDING else stem.rsplit("_", 1)[0]
