"""The sidebar's settings, and a form for the hyperparameters of a method, read from its dataclass."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from vtc.core.budget import Keep
from vtc.core.fields import choices, field_types, fit, members
from vtc.methods import method_class
from vtc.methods.docs import parameters

from .limits import LEAST_KEEP, MAX_OPTION, MAX_QUESTION


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
    method: str = ""

    def parse(self, value: Any) -> Any:
        """Value of the control as the method takes it; an empty optional one is None.

        Raises
        ------
        ValueError, TypeError
            A value is missing, too long, or none of the hyperparameter's declared type.
        """
        if value is None or value == "":
            if self.optional:
                return None
            raise ValueError(f"Option {self.name!r} needs a value; its default is {self.default!r}.")
        if isinstance(value, str) and len(value) > MAX_OPTION:
            raise ValueError(f"Option {self.name!r} has {len(value):,} characters; at most {MAX_OPTION} are taken.")
        return method_class(self.method).read_option(self.name, value)


def method_options(method: str) -> list[Option]:
    """Hyperparameters of a method beside ``keep``, in the order of its dataclass."""
    cls = method_class(method)
    hints, help_texts = field_types(cls), parameter_help(cls)
    found = []
    for item in fields(cls):
        if item.name == "keep" or not item.init:
            continue
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        kind, words, optional = _kind(hints[item.name])
        found.append(Option(item.name, kind, default, help_texts.get(item.name, ""), words, optional, method))
    return found


def _kind(hint: Any) -> tuple[Any, tuple[Any, ...], bool]:
    inner = [part for part in members(hint) if part is not type(None)]
    optional = len(inner) < len(members(hint))
    if len(inner) > 1:
        return "text", (), optional
    words = choices(inner[0])
    simple = {bool: "flag", int: "whole", float: "number"}
    return ("choice" if words else simple.get(inner[0], "text")), words, optional


def parameter_help(cls: type) -> dict[str, str]:
    """First sentence on every parameter of a method."""
    return {name: _plain(text) for name, text in parameters(cls.__doc__ or "").items()}


def _plain(text: str) -> str:
    text = re.sub(r":\w+:`~?([^`]+)`", r"\1", text).replace("``", "")
    return re.split(r"(?<=[a-z)])\. ", text, maxsplit=1)[0].rstrip(".") + "."


def settings(model: str, method: str, keep: float, chosen: Any) -> Settings:
    """Read the sidebar; ``chosen`` holds what the user set, by method. A share of 1 stays a share.

    Raises
    ------
    ValueError, TypeError
        No such method, or a share outside the slider's range.
    """
    defaults = {option.name: option.default for option in method_options(method)}
    options = chosen.get(method, {}) if isinstance(chosen, dict) else {}
    differing = {name: value for name, value in options.items() if name in defaults and value != defaults[name]}
    share = fit("keep", keep, float)
    if not LEAST_KEEP <= share <= 1.0:
        raise ValueError(f"keep={share:g} is not allowed: the slider goes from {LEAST_KEEP:g} to 1.")
    return Settings(fit("model", model, str), method, round(share, 3), differing)


def checked_question(question: Any) -> str:
    """Question as it came.

    Raises
    ------
    ValueError, TypeError
        No text, or a longer one than the page takes.
    """
    if question is None:
        raise ValueError("There is no question: type one.")
    text = fit("question", question, str)
    if len(text) > MAX_QUESTION:
        raise ValueError(f"The question has {len(text):,} characters; at most {MAX_QUESTION} are taken. Shorten it.")
    return text
