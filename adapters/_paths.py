"""Attributes at dotted paths."""

from __future__ import annotations

from typing import Any


def follow(root: Any, path: str) -> Any:
    """Attribute at a dotted path, None when some part is missing."""
    for name in path.split("."):
        root = getattr(root, name, None)
        if root is None:
            return None
    return root


def first_path(root: Any, paths: tuple[str, ...]) -> Any:
    """Return the first of several dotted paths that exists, None when none does."""
    return next((found for p in paths if (found := follow(root, p)) is not None), None)
