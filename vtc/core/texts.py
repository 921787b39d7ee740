"""Read the value of a field from text, as its declared type says: the command line, forms, arguments of others."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import typing
import warnings
from typing import Any, Literal

from .fields import SEQUENCES, allowed, choices, fit, members
from .words import nearest, shown

LONGEST = 10_000
"""Characters of a value."""
FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NOTHING = ("none", "null")
_BRACKETS = {"(": ")", "[": "]"}


def read(name: str, text: str, hint: Any) -> Any:
    """Value of a field of the annotation ``hint``.

    ``true``, ``yes``, ``on``, ``1`` and their opposites, in any case, are bools; ``none`` and ``null`` are None where
    that is allowed and no word of its own; lists are written ``7,9,12``, with or without brackets.

    Raises
    ------
    ValueError, TypeError
        The text is no such value; the message begins with the name and says what is allowed.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise ValueError(f"{name} has {len(text):,} characters; at most {LONGEST:,} are taken.")
    words = [word for word in choices(hint) if str(word) in (text, _unquoted(text))]
    if words:
        return fit(name, words[0], hint)
    parts = members(hint)
    if type(None) in parts and text.lower() in _NOTHING:
        return None
    for part in sorted(parts, key=_order):
        found = _read(name, text, part)
        if found is not None:
            return fit(name, found, hint)
    if choices(hint):
        return fit(name, text, hint)  # raises, and lists the words
    raise ValueError(f"{name}={shown(text)} is not allowed; pass {allowed(hint)}.{nearest(text, _hints(parts))}")


def reread(name: str, value: Any, hint: Any) -> Any:
    """As :func:`read`, for what another reader may have turned into numbers and bools: ``-1.0`` of ``-1``, 5 of a name.

    Raises
    ------
    ValueError, TypeError
        See :func:`read`.
    """
    parts = members(hint)
    if isinstance(value, str):
        return read(name, value, hint)
    if isinstance(value, float) and value.is_integer() and int in parts and float not in parts:
        value = int(value)
    elif isinstance(value, int) and not isinstance(value, bool) and bool in parts and int not in parts:
        return read(name, str(value), hint)
    elif isinstance(value, (int, float)) and str in parts and not {int, float} & set(parts):
        value = str(value)
    return fit(name, value, hint)


def _hints(parts: tuple[Any, ...]) -> tuple[str, ...]:
    return ("true", "false") if bool in parts else ()


def _order(part: Any) -> int:
    """Numbers before text, which anything is."""
    return {bool: 0, int: 1, float: 2, str: 9}.get(part, 5)


def _read(name: str, text: str, part: Any) -> Any:
    """Value of one type, None where the text is none of that type."""
    if part is bool:
        return FLAGS.get(text.lower())
    if part is int:
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,40}", text) else None
    if part is float:
        return _number(text)
    if part is str:
        return _unquoted(text)
    if typing.get_origin(part) in SEQUENCES:
        return _list(name, text, part)
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _list(name: str, text: str, part: Any) -> list[Any] | None:
    inner = [a for a in typing.get_args(part) if a is not Ellipsis]
    simple = inner and all(m in (bool, int, float, str) or typing.get_origin(m) is Literal for m in members(inner[0]))
    if not simple or len(set(inner)) > 1:
        found = literal(text)
        return list(found) if isinstance(found, (list, tuple)) else None
    closing = _BRACKETS.get(text[:1])
    if closing is not None:
        if not text.endswith(closing):
            return None
        text = text[1:-1]
    elif "," not in text:
        return None  # one word is no list: a mistyped word would otherwise be called a bad list
    entries = text.rstrip(", ").split(",") if text.strip(", ") else []
    return [read(f"{name}[{i}]", entry, inner[0]) for i, entry in enumerate(entries)]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def literal(text: str) -> Any:
    """Value where no type is known: bools, None, numbers, quoted text, lists and dictionaries; else the text itself."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in _NOTHING:
        return None
    if len(text) > LONGEST or not re.match(r"[\[({\"'+\-.0-9]", text):
        return text
    for reader in (json.loads, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Python code that the text is not
                return reader(text)
    return text
