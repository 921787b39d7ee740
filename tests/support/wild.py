"""Random values and texts that people, forms and files might hand to a hyperparameter, and what is right about them."""

from __future__ import annotations

import collections.abc
import math
import random
import typing
from typing import Any

from vtc.core.fields import field_types, members
from vtc.methods import Method

JARGON = (
    "unhashable",
    "is not iterable",
    "not supported between",
    "dictionary update",
    "no len()",
    "object has no attribute",
    "ambiguous",
    "must be str",
    "cannot be interpreted",
    "Exceeds the limit",
    "maximum recursion",
    "got multiple values",
    "unexpected keyword",
    "__init__",
)
_FLAGS = ("", " ", "true", "False", "YES", "off", "0", "1", "none", "null", "None", "auto")
_NUMBERS = ("nan", "inf", "-inf", "1e999", "-0.0", "1.5", "-3", "+7", "0x10", "1_000", "1e3", "10/64", "½", "٣")
_LISTS = ("7,9,12", "(7, 9)", "[0.9,0.5]", "[", "]", "[[1],[2]]", "{}", '{"a":1}', "[1, true]", "[NaN]")
_BROKEN = ("[]", ",", "1,,2", "[1", "\0", "\n", "a=b", "9" * 30, "9" * 5000, "[" * 3000)
_WORDS = ("'keep'", '"keep"', "keep", "renumber", "self", "uniform", "image", "row", "__import__('os')", "lambda: 0")
_TEXTS = (*_FLAGS, *_NUMBERS, *_LISTS, *_WORDS, *_BROKEN)


def text(rng: random.Random, hint: Any = None) -> str:
    """A text: a known trap, a word of the type, or noise."""
    kind = rng.random()
    words = [str(c) for part in members(hint) for c in typing.get_args(part)] if hint is not None else []
    if kind < 0.3 and words:
        word = rng.choice(words)
        return word if rng.random() < 0.6 else word[:-1] + rng.choice("xe_ ")
    if kind < 0.8:
        return rng.choice(_TEXTS)
    return "".join(rng.choice("abkeprnu01.,-[]{}()'\"= \t\\é€") for _ in range(rng.randrange(12)))


def value(rng: random.Random, depth: int = 3) -> Any:
    """A value as JSON may hold it, with NaN and infinities as Python reads them."""
    kind = rng.randrange(12 if depth else 9)
    if kind < 9:
        return rng.choice(
            [
                None,
                True,
                False,
                rng.randrange(-3, 40),
                rng.choice([0, 1, 2**31, 2**63, -(2**70), 10**400]),
                rng.uniform(-1, 2),
                rng.choice([math.nan, math.inf, -math.inf, 1e308, 5e-324, 0.0, 1.0, 1.5]),
                text(rng),
            ]
        )
    if kind < 11:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {text(rng): value(rng, depth - 1) for _ in range(rng.randrange(3))}


def is_of(given: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type, strictly: a bool is no number, a number is finite, a list is a tuple."""
    return any(_is_of(given, part) for part in members(hint))


def _is_of(given: Any, part: Any) -> bool:
    origin = typing.get_origin(part)
    if origin is typing.Literal:
        return any(type(given) is type(word) and given == word for word in typing.get_args(part))
    if origin is collections.abc.Sequence:
        return type(given) is tuple and all(is_of(v, typing.get_args(part)[0]) for v in given)
    if part is float:
        return type(given) is float and math.isfinite(given)
    if part in (bool, int, str, type(None)):
        return type(given) is part
    raise AssertionError(f"a field of a type this fuzzer does not know: {part}")


def check_made(made: Method) -> None:
    """Every field of a method that was made is of its declared type."""
    own = {name for name, f in type(made).__dataclass_fields__.items() if "check" in f.metadata}
    for name, hint in field_types(type(made)).items():
        given = getattr(made, name)
        if name == "keep":
            assert type(given) in (int, float) and (given >= 1 if type(given) is int else 0 < given <= 1), given
        elif name not in own:
            assert is_of(given, hint), (made.name, name, given, hint)


def check_fault(error: Exception, names: typing.Iterable[str]) -> None:
    """One line of bounded length that names one of the keys, in words of ours."""
    said = str(error)
    brief = said[:300]
    assert type(error) in (ValueError, TypeError), repr(error)
    assert any(name in said for name in names), (brief, list(names))
    assert not any(word in said for word in JARGON), brief
    assert len(said) < 900 and "\n" not in said, brief
