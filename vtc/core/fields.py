"""Declared types of fields: the one place that checks a value against the annotation of its field.

``seed: int`` says everything there is to say about a seed; nobody repeats it. What is checked: ``Literal``, ``bool``,
``int``, ``float``, ``str``, ``None``, sequences and tuples of them, callables, classes, and unions of all these.
Numbers of numpy become Python's, sequences become tuples. An annotation of another kind is not checked.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math
import numbers
import operator
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from .words import kind, nearest, shown

LARGEST = 2**63 - 1
"""Whole numbers must fit into 64 bits with a sign, as those of torch do."""
SEQUENCES = (collections.abc.Sequence, tuple, list)
_WORDS = {bool: "True or False", int: "a whole number", float: "a finite number", str: "a text", type(None): "None"}


@functools.cache
def field_types(cls: type) -> dict[str, Any]:
    """Annotations of the fields of a dataclass, by name; those of ``ClassVar`` are no fields.

    Empty for a class whose annotations name what only a function knows (classes defined inside of one).
    """
    try:
        hints = typing.get_type_hints(cls)
    except NameError:
        return {}
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.name in hints}


def members(hint: Any) -> tuple[Any, ...]:
    """Types of a union, or the one type."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(part for member in typing.get_args(hint) for part in members(member))
    return (type(None) if hint is None else hint,)


def choices(hint: Any) -> tuple[Any, ...]:
    """Words a ``Literal`` (or the ones in a union) allows."""
    return tuple(c for part in members(hint) if typing.get_origin(part) is Literal for c in typing.get_args(part))


def allowed(hint: Any) -> str:
    """What an annotation allows, in words: ``"a whole number or None"``."""
    return " or ".join(dict.fromkeys(_allowed(part) for part in members(hint)))


def _allowed(part: Any) -> str:
    origin = typing.get_origin(part)
    if origin is Literal:
        return "one of " + ", ".join(repr(c) for c in typing.get_args(part))
    if origin in SEQUENCES:
        inner = [a for a in typing.get_args(part) if a is not Ellipsis]
        return f"a list (each {allowed(inner[0])})" if len(set(inner)) == 1 and inner[0] is not Any else "a list"
    if origin is Callable or origin is collections.abc.Callable:
        return "a function"
    return _WORDS.get(part) or f"a {getattr(part, '__name__', part)}"


def fit(name: str, value: Any, hint: Any) -> Any:
    """Check a value against an annotation.

    Parameters
    ----------
    name : str
        How users call the value; every message begins with it.
    value : object
    hint : type
        As :func:`typing.get_type_hints` gives it.

    Returns
    -------
    object
        The value as a plain Python one: ``int`` where an int is declared, ``float`` for a float, tuples for sequences.

    Raises
    ------
    TypeError
        Of another type: text for a number, a bool for an int, a list for a name.
    ValueError
        None of the allowed words, or a number that is infinite, NaN or beyond 64 bits.
    """
    faults: list[Exception] = []
    for part in members(hint):
        try:
            return _fit(name, value, part)
        except (TypeError, ValueError) as fault:
            # without its frames: they would keep the model of the caller alive until the cyclic collector runs
            faults.append(fault.with_traceback(None))
    closer = [f for f in faults if not isinstance(f, _OtherType)]
    if closer:
        raise closer[0]
    words, others = choices(hint), _besides_words(hint)
    if words and (isinstance(value, str) or not others):
        raise _no_such_word(name, value, hint, words)
    raise TypeError(f"{name}={shown(value)} is {kind(value)}; pass {allowed(hint)}.")


class _OtherType(TypeError):
    """The value is of another type than this member of the union: the others may take it."""


def _no_such_word(name: str, value: Any, hint: Any, words: tuple[Any, ...]) -> ValueError:
    listed = [repr(w) for w in words] + ["None"] * (type(None) in members(hint))
    others = _besides_words(hint)
    other = f", or pass {' or '.join(_allowed(p) for p in others)}" if others else ""
    near = nearest(value, words) if isinstance(value, str) else ""
    return ValueError(f"{name}={shown(value)} is not allowed; choose one of {', '.join(listed)}{other}.{near}")


def _besides_words(hint: Any) -> list[Any]:
    return [p for p in members(hint) if p is not type(None) and typing.get_origin(p) is not Literal]


def _fit(name: str, value: Any, part: Any) -> Any:
    reader = _READERS.get(part)
    if reader is not None:
        return reader(name, value)
    origin = typing.get_origin(part)
    if origin is Literal:
        return _word(value, typing.get_args(part))
    if origin in SEQUENCES or part in SEQUENCES:
        return _sequence(name, value, part)
    if origin is collections.abc.Callable or part is collections.abc.Callable:
        return _instance(value, callable(value))
    try:
        return _instance(value, isinstance(value, origin or part))
    except _OtherType:
        raise
    except TypeError:  # nothing isinstance understands, such as Any: not ours to check
        return value


def _instance(value: Any, fits: bool) -> Any:
    if not fits:
        raise _OtherType
    return value


def _word(value: Any, words: tuple[Any, ...]) -> Any:
    for word in words:
        if isinstance(value, type(word)) and isinstance(value, bool) == isinstance(word, bool) and value == word:
            return word
    raise _OtherType


def _bool(name: str, value: Any) -> bool:
    return bool(_instance(value, isinstance(value, (bool, np.bool_))))


def _int(name: str, value: Any) -> int:
    number = operator.index(_instance(value, isinstance(value, numbers.Integral) and not isinstance(value, bool)))
    if not -LARGEST <= number <= LARGEST:
        raise ValueError(f"{name}={shown(number)} is not allowed: a whole number must fit into 64 bits.")
    return number


def _float(name: str, value: Any) -> float:
    _instance(value, isinstance(value, numbers.Real) and not isinstance(value, bool))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name}={shown(value)} is not allowed: pass a finite number.")
    return number


def _str(name: str, value: Any) -> str:
    return str(_instance(value, isinstance(value, str)))


def _none(name: str, value: Any) -> None:
    return _instance(value, value is None)


_READERS: dict[Any, Callable[[str, Any], Any]] = {
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    type(None): _none,
}


def _sequence(name: str, value: Any, part: Any) -> Any:
    """Elements one by one; a list where a list is declared, else a tuple."""
    if not isinstance(value, (str, bytes)) and hasattr(value, "tolist"):
        value = value.tolist()  # an array or a tensor
    _instance(value, isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes, bytearray)))
    inner = typing.get_args(part)
    fixed = typing.get_origin(part) is tuple and Ellipsis not in inner
    if fixed and len(value) != len(inner):
        raise ValueError(f"{name} has {len(value)} entries; pass {len(inner)}.")
    hints = inner if fixed else (inner[0] if inner else Any,) * len(value)
    found = [fit(f"{name}[{i}]", v, h) for i, (v, h) in enumerate(zip(value, hints, strict=True))]
    return found if typing.get_origin(part) is list or part is list else tuple(found)
