"""Hyperparameters by their declared types: values, texts, and what is refused in which words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from vtc.cli.values import check_method, parse_keep, parse_options
from vtc.core.budget import check_keep
from vtc.core.fields import LARGEST, allowed, field_types, fit
from vtc.core.texts import read, reread
from vtc.core.words import nearest, shown
from vtc.methods import Method, list_methods, make_method, method_class

Word = Literal["sum", "max"]
FLAGS = [
    (method, name)
    for method in list_methods()
    for name, hint in field_types(method_class(method)).items()
    if hint in (bool, bool | None)
]


@dataclass(kw_only=True)
class Every(Method):
    """A hyperparameter of every kind."""

    name: ClassVar[str] = "every"
    summary: ClassVar[str] = "for tests"
    flag: bool = False
    whole: int = 0
    share: float = 0.5
    word: Word = "sum"
    text: str | None = None
    numbers: Sequence[float] | None = None
    layers: Literal["all"] | Sequence[int] | None = None
    pair: tuple[int, str] = (1, "a")
    rows: list[int] | None = None
    function: Callable[[int], int] | None = None
    anything: Any = None

    def stages(self, facts: Any) -> list[Any]:
        return []


TYPES = field_types(Every)


@pytest.mark.parametrize(
    ("name", "given", "right"),
    [
        ("flag", np.bool_(True), True),
        ("whole", np.int64(3), 3),
        ("whole", -LARGEST, -LARGEST),
        ("share", 1, 1.0),
        ("share", np.float32(0.5), 0.5),
        ("share", Fraction(1, 4), 0.25),
        ("word", np.str_("max"), "max"),
        ("text", "x", "x"),
        ("numbers", [1, 0.5], (1.0, 0.5)),
        ("numbers", np.array([0.5, 0.25]), (0.5, 0.25)),
        ("numbers", torch.tensor([2.0]), (2.0,)),
        ("layers", range(2), (0, 1)),
        ("layers", "all", "all"),
        ("layers", None, None),
        ("pair", [2, "b"], (2, "b")),
        ("rows", (1, 2), [1, 2]),
        ("function", len, len),
        ("anything", {"a": [1]}, {"a": [1]}),
    ],
)
def test_values_become_plain_ones_of_the_declared_type(name, given, right):
    made = getattr(Every(**{name: given}), name)
    assert made == right and type(made) is type(right)
    later = Every()
    setattr(later, name, given)
    assert getattr(later, name) == right


@pytest.mark.parametrize(
    ("name", "given", "error", "text"),
    [
        ("flag", 1, TypeError, "flag=1 is an int; pass True or False"),
        ("flag", "false", TypeError, "flag='false' is a str"),
        ("flag", None, TypeError, "flag=None"),
        ("whole", 1.0, TypeError, "whole=1.0 is a float; pass a whole number"),
        ("whole", True, TypeError, "whole=True is a bool"),
        ("whole", 2**63, ValueError, "whole=.*64 bits"),
        pytest.param("whole", 10**5000, ValueError, "whole=an int is not allowed", id="huge"),
        ("share", math.nan, ValueError, "share=nan is not allowed: pass a finite number"),
        ("share", 10**400, ValueError, "share=.*finite"),
        ("share", True, TypeError, "share=True"),
        ("share", torch.tensor(0.5), TypeError, "share="),
        ("word", "summ", ValueError, r"word='summ' is not allowed; choose one of 'sum', 'max'\. Did you mean 'sum'"),
        ("word", ["sum"], ValueError, "choose one of 'sum', 'max'"),
        ("word", np.array(["sum", "max"]), ValueError, "choose one of"),
        ("text", 5, TypeError, "pass a text or None"),
        ("numbers", 3.0, TypeError, r"numbers=3.0 is a float; pass a list \(each a finite number\) or None"),
        ("numbers", "0.5", TypeError, "numbers='0.5' is a str"),
        ("numbers", [0.5, "x"], TypeError, r"numbers\[1\]='x' is a str"),
        ("numbers", [0.5, math.inf], ValueError, r"numbers\[1\]=inf"),
        ("numbers", {0.5}, TypeError, "numbers="),
        ("layers", "al", ValueError, "choose one of 'all', None, or pass a list .*Did you mean 'all'"),
        ("layers", [True], TypeError, r"layers\[0\]=True"),
        ("pair", (1, "a", 2), ValueError, "pair has 3 entries; pass 2"),
        ("function", 3, TypeError, "pass a function or None"),
    ],
)
def test_other_values_are_refused_with_the_name_of_the_field(name, given, error, text):
    with pytest.raises(error, match=text):
        Every(**{name: given})
    made = Every()
    before = getattr(made, name)
    with pytest.raises(error, match=text):
        setattr(made, name, given)
    assert getattr(made, name) == before


@pytest.mark.parametrize(
    ("name", "text", "right"),
    [
        *(("flag", word, True) for word in ("true", "True", "YES", "on", "1")),
        *(("flag", word, False) for word in ("false", "FALSE", "no", "Off", "0", " false ")),
        ("whole", "-3", -3),
        ("share", "1e-2", 0.01),
        ("word", "max", "max"),
        ("word", "'max'", "max"),
        ("text", "5", "5"),
        ("text", '"none"', "none"),
        ("text", "none", None),
        ("numbers", "0.9,0.5", (0.9, 0.5)),
        ("numbers", "[0.9, 0.5,]", (0.9, 0.5)),
        ("numbers", "(1)", (1.0,)),
        ("numbers", "[]", ()),
        ("layers", "all", "all"),
        ("layers", "1,2", (1, 2)),
        ("layers", "NULL", None),
    ],
)
def test_texts_are_read_as_the_declared_type_says(name, text, right):
    found = read(name, text, TYPES[name])
    assert found == right and type(found) is type(right)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("flag", "fasle", "flag='fasle' is not allowed; pass True or False. Did you mean 'false'"),
        ("flag", "2", "flag='2'"),
        ("whole", "1.5", "whole='1.5' is not allowed; pass a whole number"),
        ("whole", "9" * 30, "64 bits"),
        ("share", "inf", "share=inf"),
        ("share", "1e999", "finite"),
        ("word", "maxx", "Did you mean 'max'"),
        ("numbers", "0.5", "pass a list"),
        ("numbers", "0.5,x", r"numbers\[1\]='x'"),
        ("numbers", "[0.5", "numbers="),
        ("layers", "[[1]]", r"layers\[0\]"),
        ("text", "x" * 20_000, "text has 20,000 characters"),
    ],
)
def test_other_texts_are_refused(name, text, message):
    with pytest.raises(ValueError, match=message):
        read(name, text, TYPES[name])


def test_what_a_reader_without_types_made_is_read_again():
    """lmms-eval turns every argument into a number or a bool where it can."""
    assert reread("whole", -1.0, int) == -1 and type(reread("whole", -1.0, int)) is int
    assert reread("flag", 1, bool) is True and reread("text", 5, str | None) == "5"
    with pytest.raises(TypeError, match="whole=1.5"):
        reread("whole", 1.5, int)


@pytest.mark.parametrize(("method", "name"), FLAGS)
def test_options_that_are_flags(method, name):
    for text, right in (("false", False), ("true", True)):
        options = parse_options([f"{name}={text}"], method)
        check_method(method, None, options)
        assert getattr(make_method(method, **options), name) is right
        assert parse_options([f"{name}={text}"]) == {name: right}  # the method is not known yet
    for wrong in (0, 1, "false", 0.0, [True]):
        with pytest.raises(TypeError, match=f"{name}="):
            make_method(method, **{name: wrong})


@pytest.mark.parametrize("method", list_methods())
def test_every_field_of_every_method_has_a_type_that_is_checked(method):
    cls = method_class(method)
    own = {name for name, f in cls.__dataclass_fields__.items() if "check" in f.metadata}
    assert set(field_types(cls)) == set(cls.options())
    for name in set(cls.options()) - own:
        with pytest.raises((TypeError, ValueError), match=name):
            make_method(method, **{name: {"no": object()}})


def test_a_method_that_is_at_work_refuses_bad_values():
    made = make_method("transprune")
    for name, wrong in (("keep", 0.0), ("keep", None), ("alpha", "x"), ("scope", "rows")):
        with pytest.raises((TypeError, ValueError), match=name):
            setattr(made, name, wrong)
    assert made == make_method("transprune")


@pytest.mark.parametrize(
    ("keep", "error"),
    [
        (math.inf, ValueError),
        (-math.inf, ValueError),
        (math.nan, ValueError),
        (1e300, ValueError),
        (Fraction(10**400), ValueError),
        (2**63, ValueError),
        pytest.param(10**5000, ValueError, id="huge"),
        (np.float64(1.5), ValueError),
        (np.int64(0), ValueError),
        (True, TypeError),
        (np.bool_(True), TypeError),
        (1j, TypeError),
        ("0.5", TypeError),
        (torch.tensor(0.5), TypeError),
        (None, TypeError),
    ],
)
def test_strengths_that_are_none(keep, error):
    with pytest.raises(error, match="keep=") as caught:
        check_keep(keep)
    assert len(str(caught.value)) < 400


def test_strengths_become_plain_numbers():
    for given, right in ((np.float32(0.5), 0.5), (np.int32(7), 7), (np.float64(1.0), 1.0), (2**40, 2**40)):
        found = check_keep(given)
        assert found == right and type(found) is type(right)
    assert type(make_method("pool", keep=np.int64(4)).keep) is int
    for text in ("inf", "1e999", "9" * 5000, "٣", ""):
        with pytest.raises(ValueError, match="keep="):
            parse_keep(text)


@pytest.mark.parametrize(
    ("pairs", "method", "message"),
    [
        (["seed=1", "seed=2"], "random", "there twice"),
        (["keep=0.5"], "random", "--keep"),
        (["=1"], "random", "name=value"),
        (["sead=1"], "random", "Did you mean 'seed'"),
        (["seed=1"], ["random"], "pass the name of a method"),
    ],
)
def test_pairs_that_are_no_options(pairs, method, message):
    with pytest.raises((ValueError, TypeError), match=message):
        parse_options(pairs, method)


def test_options_of_auto_must_suit_one_of_its_choices():
    check_method("auto", None, parse_options(["positions=keep"], "auto"))
    with pytest.raises(TypeError, match="no option 'processor'"):
        check_method("auto", None, parse_options(["processor=1"], "auto"))


def test_messages_are_bounded():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    for value in (deep, "x" * 10**6, list(range(10**5)), Odd(), "a\nb"):
        assert len(shown(value)) <= 80 and "\n" not in shown(value)
    assert nearest("sumn", ["sum", None]) == " Did you mean 'sum'?" and nearest("q", ["sum"]) == ""
    assert allowed(TYPES["layers"]) == "one of 'all' or a list (each a whole number) or None"
    with pytest.raises(TypeError, match="seed="):
        fit("seed", deep, int)
