"""The arguments of ``--model vtc``: ours are taken out, all others go to the base class untouched."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vtc.core.budget import Keep, check_keep
from vtc.core.fields import field_types
from vtc.core.texts import literal, reread
from vtc.core.words import nearest, shown
from vtc.files import file_to_write
from vtc.methods import make_method, method_class, read_options

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
        if self.stats_path is not None:
            file_to_write(self.stats_path, "numbers")
        self.choice()
        return self


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
    types = field_types(Settings)
    ours = {name: _given(name, args[name], types[name]) for name in OURS if name in args}
    rest = {name: value for name, value in args.items() if name not in OURS}
    return Settings(**ours), rest


def _given(name: str, value: Any, hint: Any) -> Any:
    if name == "keep":
        return check_keep(literal(value) if isinstance(value, str) else value)
    return reread(name, value, hint)


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
            options[plain] = value
        else:
            others[name] = value
    for name in others:
        hint = nearest(name, [*OURS, *known, *named])
        if name not in named and (hint or not open_ended):
            raise TypeError(
                f"Nobody knows the argument {shown(name)}.{hint} Ours: {', '.join([*OURS, *known])}. "
                f"{base.__name__}: {', '.join(named)}."
            )
    if options and settings.config is None and settings.method not in (NO_METHOD, "auto"):
        options = read_options(settings.method, options)
    return replace(settings, options={**settings.options, **options}).check(), others


def _options(settings: Settings) -> tuple[str, ...]:
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
