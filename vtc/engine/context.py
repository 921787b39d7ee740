"""What holds for the calls of one thread or task: switched off, scores of frames, memory. One variable for all."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from .scope import Scope


@dataclass(frozen=True)
class Settings:
    """Of one handle, in one context.

    Attributes
    ----------
    off : bool
        Calls run the plain model.
    scores : object or None
        Scores of frames.
    state : object or None
        Memory to use instead of the handle's own.
    prompt : int or None
        Columns that ``generate`` began with. Without a cache every step runs all of them and what was generated since:
        only this tells the two apart.
    generates : bool
        ``generate`` runs with a mask it may finish itself (static caches): then no finished mask is the caller's.
    """

    off: bool = False
    scores: Any = None
    state: Any = None
    generates: bool = False
    prompt: int | None = None


_PLAIN = Settings()
_SETTINGS: Scope[Mapping[int, Settings]] = Scope("vtc_settings", MappingProxyType({}))


def settings_of(handle: object) -> Settings:
    """Settings that hold here for a handle."""
    return _SETTINGS.get().get(id(handle), _PLAIN)


def settings(handle: object, **changes: Any) -> AbstractContextManager[Mapping[int, Settings]]:
    """Change them for what this thread or task runs inside."""
    known = _SETTINGS.get()
    return _SETTINGS.bind({**known, id(handle): replace(settings_of(handle), **changes)})
