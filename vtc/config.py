"""Configurations: flat JSON with the method's name, its hyperparameters and the version that wrote it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .methods import Method, make_method, method_class
from .version import __version__


@dataclass
class Config:
    """One or several methods as plain dictionaries.

    Parameters
    ----------
    methods : list of dict
        Each with ``"method"`` and its hyperparameters.
    """

    methods: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """``{"method": ..., "keep": ..., ..., "vtc_version": ...}``; several methods go under ``"methods"``."""
        body = self.methods[0] if len(self.methods) == 1 else {"methods": self.methods}
        return {**body, "vtc_version": __version__}

    def save(self, path: str | Path) -> Path:
        """Write JSON to a file, or to ``vtc.json`` inside an existing directory; returns the file."""
        file = Path(path)
        file = file / "vtc.json" if file.is_dir() else file
        file.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        return file

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Config:
        """Read what :meth:`to_dict` wrote.

        Unknown hyperparameters are dropped with a warning that names both versions.

        Raises
        ------
        ValueError
            No method named, an unknown method, or a value out of range.
        """
        data = dict(data)
        written = data.pop("vtc_version", None)
        entries = data["methods"] if "methods" in data else [data]
        if not entries or any("method" not in entry for entry in entries):
            raise ValueError('A vtc configuration needs a "method" (or a list "methods" of such entries).')
        return cls([_known(dict(entry), written) for entry in entries])

    def build(self) -> list[Method]:
        """Make the methods."""
        return [make_method(e["method"], **{k: v for k, v in e.items() if k != "method"}) for e in self.methods]


def _known(entry: dict[str, Any], written: str | None) -> dict[str, Any]:
    allowed = {"method", *method_class(entry["method"]).options()}
    unknown = sorted(set(entry) - allowed)
    if unknown:
        warnings.warn(
            f"Ignoring {unknown} of method {entry['method']!r}: unknown to vtc {__version__} "
            f"(the file was written by {written or 'an unknown version'}).",
            stacklevel=3,
        )
    return {k: v for k, v in entry.items() if k in allowed}


def load(path: str | Path) -> Config:
    """Read a configuration from a JSON file or a directory that holds ``vtc.json``; pass it to :func:`vtc.patch`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not a configuration.
    """
    file = Path(path)
    file = file / "vtc.json" if file.is_dir() else file
    if not file.exists():
        raise FileNotFoundError(f"No vtc configuration at {file}.")
    try:
        data = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} holds a {type(data).__name__}; a vtc configuration is a JSON object.")
    return Config.from_dict(data)
