"""Configurations: flat JSON with the method's name, its hyperparameters and the version that wrote it."""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .core.words import kind, shown
from .files import file_to_write, is_folder, read_json, shown_path
from .methods import Method, make_method, method_class
from .version import __version__

_NEEDS = 'A vtc configuration needs a "method" (or a list "methods" of such entries).'


@dataclass
class Config:
    """One or several methods as plain dictionaries.

    Parameters
    ----------
    methods : list of dict
        Each with ``"method"`` and its hyperparameters.
    """

    methods: list[dict[str, Any]]

    def __post_init__(self) -> None:
        """Check the form; the values are checked by :meth:`build`."""
        if not isinstance(self.methods, list):
            raise TypeError(f"methods={shown(self.methods)} is {kind(self.methods)}; pass a list of entries.")
        if not self.methods:
            raise ValueError(_NEEDS)
        for entry in self.methods:
            if not isinstance(entry, dict):
                raise TypeError(f"methods holds {shown(entry)}, {kind(entry)}; each entry is an object.")
            if "method" not in entry:
                raise ValueError(_NEEDS)
            strange = [key for key in entry if not isinstance(key, str)]
            if strange:
                raise TypeError(f"methods has the key {shown(strange[0])}; keys are names of hyperparameters.")

    def to_dict(self) -> dict[str, Any]:
        """``{"method": ..., "keep": ..., ..., "vtc_version": ...}``; several methods go under ``"methods"``."""
        body = self.methods[0] if len(self.methods) == 1 else {"methods": self.methods}
        return {**body, "vtc_version": __version__}

    def save(self, path: str | Path) -> Path:
        """Write JSON to a file, or to ``vtc.json`` inside an existing directory; returns the file.

        Raises
        ------
        ValueError
            A pipe or a device is there.
        """
        file = file_to_write(_file(path), "vtc configuration")
        file.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        return file

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Config:
        """Read what :meth:`to_dict` wrote.

        Unknown hyperparameters are dropped with a warning that names both versions.

        Raises
        ------
        ValueError
            No method named, an unknown method, or a value out of range.
        TypeError
            A value of another type than its hyperparameter's; the message names it.
        """
        if not isinstance(data, dict):
            raise TypeError(f"A vtc configuration is an object, and this is {kind(data)}.")
        data = dict(data)
        written = data.pop("vtc_version", None)
        if "methods" in data and len(data) > 1:
            others = shown(sorted(map(str, set(data) - {"methods"})))
            raise ValueError(f'A vtc configuration with "methods" has no keys beside it, and this one has {others}.')
        given = cls(data["methods"] if "methods" in data else [data])
        found = cls([_known(entry, written) for entry in given.methods])
        found.build()
        return found

    def build(self) -> list[Method]:
        """Make the methods."""
        return [make_method(e["method"], **{k: v for k, v in e.items() if k != "method"}) for e in self.methods]


def _known(entry: dict[str, Any], written: object) -> dict[str, Any]:
    allowed = {"method", *method_class(entry["method"]).options()}
    unknown = sorted(set(entry) - allowed)
    if unknown:
        warnings.warn(
            f"Ignoring {shown(unknown)} of method {entry['method']!r}: unknown to vtc {__version__} "
            f"(the file was written by {shown(written) if written else 'an unknown version'}).",
            stacklevel=4,
        )
    return {k: v for k, v in entry.items() if k in allowed}


def load(path: str | Path) -> Config:
    """Read a configuration from a JSON file or a directory that holds ``vtc.json``; pass it to :func:`vtc.patch`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not a regular file, not a configuration, an unknown method or a value out of range.
    TypeError
        A value of another type than its hyperparameter's.
    """
    file = _file(path)
    data = read_json(file, "vtc configuration")
    if not isinstance(data, dict):
        raise ValueError(f"{shown_path(file)} holds {kind(data)}; a vtc configuration is a JSON object.")
    try:
        return Config.from_dict(data)
    except (ValueError, TypeError) as error:
        sort = TypeError if isinstance(error, TypeError) else ValueError
        raise sort(f"{shown_path(file)}: {error}") from error


def _file(path: str | Path) -> Path:
    """The file itself, or ``vtc.json`` in a directory."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path={shown(path)} is {kind(path)}; pass the path of a vtc configuration.")
    file = Path(path)
    return file / "vtc.json" if is_folder(file) else file
