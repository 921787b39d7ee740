"""Random texts of hyperparameters: a method with fields of the declared types, or one error that names the option."""

from __future__ import annotations

import random
from collections.abc import Iterator

from vtc.cli.values import check_method, parse_keep, parse_options
from vtc.core.fields import field_types
from vtc.methods import list_methods, make_method, method_class

from support import wild


def test_any_text_of_any_option_is_read_right_or_refused(seeds: Iterator[int]) -> None:
    made = refused = 0
    for seed in seeds:
        rng = random.Random(seed)
        for method in list_methods():
            types = field_types(method_class(method))
            names = rng.sample([n for n in types if n != "keep"], k=min(len(types) - 1, rng.choice([1, 1, 1, 2])))
            pairs = [f"{name}={wild.text(rng, types[name])}" for name in names]
            try:
                options = parse_options(pairs, method)
                check_method(method, None, options)
                wild.check_made(make_method(method, **options))
                made += 1
            except (ValueError, TypeError) as error:
                wild.check_fault(error, names)
                refused += 1
    assert made and refused


def test_without_a_method_values_are_plain_ones_or_text(seeds: Iterator[int]) -> None:
    for seed in seeds:
        rng = random.Random(seed)
        words = wild.text(rng)
        found = parse_options([f"seed={words}"])["seed"]
        if words.strip().lower() in ("true", "false"):
            assert found is (words.strip().lower() == "true")
        assert isinstance(found, (bool, int, float, complex, str, bytes, list, tuple, dict, set, type(None)))
        for method in list_methods():
            option = rng.choice([n for n in method_class(method).options() if n != "keep"])
            try:
                wild.check_made(make_method(method, **{option: found}))
            except (ValueError, TypeError) as error:
                wild.check_fault(error, [option])


def test_a_strength_is_a_share_or_a_number_of_tokens(seeds: Iterator[int]) -> None:
    for seed in seeds:
        words = wild.text(random.Random(seed))
        try:
            keep = parse_keep(words)
        except (ValueError, TypeError) as error:
            wild.check_fault(error, ["keep"])
            continue
        assert type(keep) in (int, float) and (keep >= 1 if type(keep) is int else 0 < keep <= 1)
