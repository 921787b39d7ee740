"""The sidebar's settings, and a form for the hyperparameters of a method, read from its dataclass."""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from vtc.core.budget import Keep
from vtc.methods import method_class


@dataclass(frozen=True)
class Settings:
    """What the user chose; ``options`` are hyperparameters that differ from the method's defaults."""

    model: str
    method: str
    keep: Keep
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """``todre, keep=0.25, seed=1``."""
        return ", ".join([self.method, f"keep={self.keep}", *(f"{k}={v}" for k, v in self.options.items())])


@dataclass(frozen=True)
class Option:
    """One hyperparameter: ``kind`` is the control that fits its type."""

    name: str
    kind: Literal["choice", "flag", "whole", "number", "text"]
    default: Any
    help: str = ""
    choices: tuple[Any, ...] = ()
    optional: bool = False

    def parse(self, value: Any) -> Any:
        """Value of the control as the method takes it; an empty optional one is None.

        Raises
        ------
        ValueError
            A number is missing.
        """
        if value is None or value == "":
            if self.optional:
                return None
            raise ValueError(f"Option {self.name!r} needs a value; its default is {self.default!r}.")
        if self.kind == "choice":
            return next((choice for choice in self.choices if str(choice) == str(value)), value)
        if self.kind == "whole":
            return int(value)
        if self.kind == "number":
            return float(value)
        return _literal(value) if self.kind == "text" else bool(value)


def _literal(text: Any) -> Any:
    try:
        return ast.literal_eval(str(text))
    except (ValueError, SyntaxError):
        return text


def method_options(method: str) -> list[Option]:
    """Hyperparameters of a method beside ``keep``, in the order of its dataclass."""
    cls = method_class(method)
    hints, help_texts = typing.get_type_hints(cls), parameter_help(cls)
    found = []
    for item in fields(cls):
        if item.name == "keep" or not item.init:
            continue
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        kind, choices, optional = _kind(hints[item.name])
        found.append(Option(item.name, kind, default, help_texts.get(item.name, ""), choices, optional))
    return found


def _kind(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = len(inner) < len(typing.get_args(hint))
        if len(inner) == 1:
            kind, choices, _ = _kind(inner[0])
            return kind, choices, optional
        return "text", (), optional
    if typing.get_origin(hint) is Literal:
        return "choice", typing.get_args(hint), False
    simple = {bool: "flag", int: "whole", float: "number"}
    return simple.get(hint, "text"), (), False


def parameter_help(cls: type) -> dict[str, str]:
    """First sentence on every parameter in a numpydoc docstring."""
    doc = inspect.getdoc(cls) or ""
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n[A-Z][\w ]+\n-+\n|\Z)", doc, re.S)
    found: dict[str, str] = {}
    names: list[str] = []
    for line in (section.group(1) if section else "").splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(" : ")[0].split(",")]
        elif line.strip():
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    return {name: _plain(text) for name, text in found.items()}


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "")
    return re.split(r"(?<=[a-z)])\. ", text, maxsplit=1)[0].rstrip(".") + "."


def settings(model: str, method: str, keep: float, chosen: dict[str, dict[str, Any]]) -> Settings:
    """Read the sidebar; ``chosen`` holds what the user set, by method. A share of 1 stays a share."""
    defaults = {option.name: option.default for option in method_options(method)}
    options = chosen.get(method, {})
    differing = {name: value for name, value in options.items() if name in defaults and value != defaults[name]}
    return Settings(model, method, round(float(keep), 3), differing)
