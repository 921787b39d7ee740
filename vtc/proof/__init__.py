"""Proof on the spot: vtc against brute force on tiny random models, on this machine with the versions installed.

>>> from vtc.proof import prove
>>> prove("llava").holds        # doctest: +SKIP
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ensuring import ensure
    from .obligations import OBLIGATIONS
    from .proving import prove
    from .verdict import Finding, Verdict

# imported on first use: vtc.patch asks for `ensure` alone, and mostly has nothing to prove
_LAZY = {
    "OBLIGATIONS": ".obligations",
    "Finding": ".verdict",
    "Verdict": ".verdict",
    "ensure": ".ensuring",
    "prove": ".proving",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module 'vtc.proof' has no attribute {name!r}")


__all__ = ["OBLIGATIONS", "Finding", "Verdict", "ensure", "prove"]
