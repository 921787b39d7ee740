"""Random configurations: methods with fields of the declared types, or one error that names the file and the key."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vtc
from vtc.methods import list_methods, method_class

from support import wild


def entry(rng: random.Random) -> dict[str, Any]:
    """A method's entry with a few hyperparameters of any value, and now and then no entry at all."""
    method = rng.choice(list_methods())
    names = rng.sample(method_class(method).options(), k=rng.randrange(3))
    found: dict[str, Any] = {"method": method, **{name: wild.value(rng) for name in names}}
    if rng.random() < 0.1:
        found["method"] = wild.value(rng)
    if rng.random() < 0.1:
        found["future"] = wild.value(rng)
    return found


def configuration(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.1:
        return wild.value(rng)
    if kind < 0.7:
        return entry(rng)
    entries = [entry(rng) if rng.random() < 0.9 else wild.value(rng) for _ in range(rng.randrange(3))]
    return {"methods": entries if rng.random() < 0.9 else wild.value(rng), "vtc_version": wild.value(rng)}


def text(rng: random.Random) -> str:
    """JSON, sometimes with a fault in it: cut short, a letter changed, brackets without end."""
    with_digits = json.dumps(configuration(rng), default=str) if rng.random() < 0.97 else '{"method": ' + "[" * 50_000
    if rng.random() < 0.9 or not with_digits:
        return with_digits
    at = rng.randrange(len(with_digits))
    return with_digits[:at] + rng.choice(["", "\0", "é", "]", '"', "1e999"]) + with_digits[at + rng.randrange(2) :]


def keys(data: str) -> list[str]:
    """What an error may name: the file always, for the fault itself a key of ours."""
    options = {name for method in list_methods() for name in method_class(method).options()}
    return [name for name in sorted({"method", "methods", *options}) if name in data]


def test_any_configuration_builds_or_is_refused(seeds: Iterator[int], tmp_path: Path) -> None:
    file, built, refused = tmp_path / "vtc.json", 0, 0
    for seed in seeds:
        rng = random.Random(seed)
        data = text(rng)
        file.write_bytes(data.encode("utf-8", "surrogatepass"))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # unknown hyperparameters are dropped with one
                methods = vtc.load(file).build()
        except (ValueError, TypeError) as error:
            wild.check_fault(error, ["vtc.json"])
            wild.check_fault(error, [*keys(data), "configuration", "JSON"])
            refused += 1
            continue
        assert methods
        for made in methods:
            wild.check_made(made)
        again = vtc.load(vtc.Config([m.to_dict() for m in methods]).save(tmp_path / "again.json")).build()
        assert again == methods
        built += 1
    assert built and refused
