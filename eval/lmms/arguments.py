"""The arguments of ``--model vtc``: ours are taken out, all others go to the base class untouched."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vtc.core.budget import Keep

NO_METHOD = "none"
"""The model as it is, with the counters: the baseline that is measured in the same way."""
OURS = ("method", "keep", "config", "base", "stats_path")
PREFIX = "vtc_"


@dataclass(frozen=True)
class Settings:
    """What ``--model vtc`` does to the model.

    Parameters
    ----------
    method : str
        Name of a method, ``"auto"``, or ``"none"`` for the model as it is.
    keep : float, int or None
        Share of each image's tokens, or tokens per image; None: the method's own.
    options : dict
        Further hyperparameters.
    config : str or None
        File written by ``handle.config.save``; stands instead of method, keep and options.
    base : str or None
        lmms-eval's name of the base class, ``"generic"``, or None: by the checkpoint's ``model_type``.
    stats_path : str or None
        File for the efficiency numbers, JSON.
    """

    method: str = "auto"
    keep: Keep | None = None
    options: dict[str, Any] = field(default_factory=dict)
    config: str | None = None
    base: str | None = None
    stats_path: str | None = None

    def choice(self) -> Any:
        """First argument of :func:`vtc.patch`: a list of methods, or ``"auto"``; None for ``"none"``.

        Raises
        ------
        ValueError, TypeError
            Unknown method, value out of range, unknown hyperparameter, or a bad configuration file.
        """
        from vtc.config import load
        from vtc.methods import make_method

        if self.config is not None:
            return load(self.config).build()
        if self.method == NO_METHOD:
            return None
        if self.method == "auto":
            return "auto"
        return [make_method(self.method, **({} if self.keep is None else {"keep": self.keep}), **self.options)]

    @property
    def label(self) -> str:
        """For tables and logs."""
        if self.config is not None:
            return Path(self.config).name
        return self.method if self.keep is None else f"{self.method} keep={self.keep}"

    def check(self) -> Settings:
        """Raise what :meth:`choice` raises, and refuse options nobody would read; returns itself."""
        given = [name for name in ("keep", "options") if getattr(self, name)]
        if self.config is not None and (given or self.method != "auto"):
            raise ValueError("config=... stands instead of method, keep and options: pass one or the other.")
        if self.method in (NO_METHOD, "auto") and self.options:
            raise ValueError(f"method={self.method} has no options, but got {sorted(self.options)}.")
        self.choice()
        return self


def literal(value: Any) -> Any:
    """Read lists and JSON objects out of text; anything else is returned as it came."""
    if not isinstance(value, str) or value.strip()[:1] not in tuple("[{(\"'"):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError):
            continue
    return value


def split(args: dict[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Separate our arguments from those of the base class.

    Parameters
    ----------
    args : dict
        As lmms-eval parsed them: numbers and booleans are values, lists and JSON still text.

    Returns
    -------
    Settings
        Its ``options`` are still empty: which names are options is known once the base class is, see :func:`claim`.
    dict
        Everything else.
    """
    ours = {name: literal(args[name]) for name in OURS if name in args}
    rest = {name: value for name, value in args.items() if name not in OURS}
    return Settings(**ours), rest


def claim(settings: Settings, rest: dict[str, Any], base: type) -> tuple[Settings, dict[str, Any]]:
    """Move the hyperparameters of the method from ``rest`` to the settings.

    A name that the method and the base class both know belongs to the base class; ``vtc_NAME`` means the method's.

    Raises
    ------
    TypeError
        A name near to a known one that nobody knows.
    ValueError, TypeError
        What the method refuses.
    """
    known = _options(settings)
    named, open_ended = signature(base)
    options, others = {}, {}
    for name, value in rest.items():
        plain = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) or (name in known and name not in named):
            options[plain] = literal(value)
        else:
            others[name] = value
    for name in others:
        near = difflib.get_close_matches(name, [*OURS, *known, *named], n=1)
        if name not in named and (near or not open_ended):
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise TypeError(
                f"Nobody knows the argument {name!r}.{hint} Ours: {', '.join([*OURS, *known])}. "
                f"{base.__name__}: {', '.join(named)}."
            )
    return replace(settings, options={**settings.options, **options}).check(), others


def _options(settings: Settings) -> tuple[str, ...]:
    from vtc.methods import method_class

    if settings.config is not None or settings.method in (NO_METHOD, "auto"):
        return ()
    return tuple(name for name in method_class(settings.method).options() if name != "keep")


def signature(base: type) -> tuple[list[str], bool]:
    """Argument names of a base class and of the classes it passes further ones to; whether it takes any name."""
    names: list[str] = []
    for cls in base.__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = list(inspect.signature(vars(cls)["__init__"]).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            return list(dict.fromkeys(names)), False
    return list(dict.fromkeys(names)), True
