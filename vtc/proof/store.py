"""Verdicts that are kept between processes: one small JSON file each, in the user's cache folder."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import sys
import tempfile
from pathlib import Path

from ..version import versions
from .verdict import Verdict

log = logging.getLogger("vtc")
_PROVED = ("", "core", "engine", "methods", "proof", "proof/models", "adapters", "kernels")
"""Folders below the package whose sources a proof depends on."""


def cache_folder() -> Path:
    """Folder for what vtc keeps: ``VTC_CACHE``, else where the platform wants caches."""
    chosen = os.environ.get("VTC_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "vtc" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vtc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vtc"


def key(family: str) -> dict[str, str]:
    """All that a verdict is about: family, versions, and a digest of the sources of vtc."""
    return {"family": family, **versions(), "sources": sources()}


@functools.cache
def sources() -> str:
    """Digest of the files a proof runs through, so that an edited checkout is proved again."""
    import vtc

    found = hashlib.sha256()
    for folder in _PROVED:
        for root in vtc.__path__:
            for file in sorted((Path(root) / folder).glob("*.py")):
                found.update(f"{folder}/{file.name}".encode())
                found.update(file.read_bytes())
    return found.hexdigest()[:16]


def read(family: str) -> Verdict | None:
    """Kept verdict for this very key; None when there is none, or none that can be read."""
    try:
        data = json.loads(_file(family).read_text(encoding="utf-8"))
        return Verdict.from_dict(data["verdict"]) if data["key"] == key(family) else None
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.debug("the kept verdict on %s cannot be read and is made again: %s", family, error)
        return None


def write(verdict: Verdict) -> bool:
    """Keep a verdict; False when the folder cannot be written to, which is no reason to stop.

    The file appears whole or not at all, whoever else writes it at the same time.
    """
    try:
        file = _file(verdict.family)
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=file.stem, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"key": key(verdict.family), "verdict": verdict.to_dict()}, out, indent=1)
            os.replace(name, file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        log.debug("the verdict on %s is not kept: %s", verdict.family, error)
        return False
    return True


def _file(family: str) -> Path:
    digest = hashlib.sha256(json.dumps(key(family), sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "proofs" / f"{family}-{digest}.json"
