"""The soak: holds for some seconds, and finds a fault that only shows when calls meet, by its page and its status."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from vtc.engine.handle import Handle
from vtc.eval.soak import __main__ as command
from vtc.eval.soak import run as running
from vtc.eval.soak.kinds import KINDS
from vtc.eval.soak.run import Soak, soak
from vtc.eval.soak.world import World

CALLS = 45
SMALL = functools.partial(soak, calls=CALLS, models=("llava-clip",), methods=("divprune", "fastv"))


@pytest.fixture
def status(monkeypatch, tmp_path) -> Callable[..., tuple[int, str]]:
    """Exit status of the command, and the page it writes."""

    def run(made: Callable[..., Soak], minutes: str = "10") -> tuple[int, str]:
        page: Path = tmp_path / "page.md"
        monkeypatch.setattr(command, "soak", made)
        monkeypatch.setattr("sys.argv", ["soak", "--minutes", minutes, "--seed", "1", "--page", str(page)])
        return command.main(), page.read_text()

    return run


def total(page: str) -> list[int]:
    """Calls, and how many of them were equal, refused, broken off and wrong."""
    line = next(line for line in page.splitlines() if line.startswith("| all |"))
    return [int(cell) for cell in line.split("|")[2:-1]]


def test_every_answer_equals_the_one_alone(status):
    code, page = status(SMALL)
    assert all(f"| {kind} |" in page for kind in KINDS)
    calls, equal, refused, broken, wrong = total(page)
    assert code == 0 and wrong == 0 and equal >= CALLS and calls == equal + refused + broken
    assert refused and broken


def test_a_planted_fault_is_found(status, monkeypatch):
    monkeypatch.setattr(Handle, "off", property(lambda handle: False))
    code, page = status(SMALL)
    assert code == 1 and total(page)[-1] > 0
    faults = [line for line in page.splitlines() if line.startswith("- ")]
    assert faults and all(line.startswith("- disabled() beside a pruned call: ") for line in faults)
    assert all(line.endswith("another answer than alone") for line in faults)


def test_a_call_that_raises_is_wrong(status, monkeypatch):
    prepare = World.prepare

    def then_break(world, *args):
        prepare(world, *args)
        monkeypatch.setattr(Handle, "note", lambda handle, record: 1 / 0)

    monkeypatch.setattr(World, "prepare", then_break)
    code, page = status(functools.partial(SMALL, calls=2))
    assert code == 1 and "ZeroDivisionError" in page


def test_memory_that_grows_in_the_second_half_is_a_fault(monkeypatch):
    sizes = iter([500.0, 900.0, 1000.0, 1010.0, 1200.0])
    monkeypatch.setattr(running, "resident", lambda: next(sizes))
    result = SMALL(0.0)
    assert result.memory == [(0, 500.0)] and result.faults == []
    result.memory += [(i, size) for i, size in enumerate(sizes)]
    running._judge(result)
    assert result.faults == ["memory grew from 1000 to 1200 MiB in the second half"]
