"""The soak: holds for some seconds, and finds a fault that only shows when calls meet."""

from __future__ import annotations

import pytest
from vtc.eval.soak.kinds import KINDS
from vtc.eval.soak.page import render
from vtc.eval.soak.run import soak

from vtc.engine.handle import Handle

CALLS = 40


def test_every_answer_equals_the_one_alone():
    result = soak(600, seed=1, models=("llava-clip",), methods=("divprune", "fastv"), calls=CALLS)
    assert result.faults == [] and result.equal.total() >= CALLS
    page = render(result)
    assert all(f"| {kind} |" in page for kind in KINDS)
    assert f"| all | {result.equal.total()} | 0 |" in page


def test_a_planted_fault_is_found(monkeypatch):
    monkeypatch.setattr(Handle, "off", property(lambda handle: False))
    result = soak(600, seed=1, models=("llava-clip",), methods=("divprune", "fastv"), calls=CALLS)
    assert set(result.wrong) == {"disabled() beside a pruned call"}
    assert any("another answer than alone" in fault for fault in result.faults)


@pytest.mark.parametrize("wrong", [0, 1])
def test_the_command_says_so_by_its_status(monkeypatch, tmp_path, capsys, wrong):
    from vtc.eval.soak import __main__ as command
    from vtc.eval.soak.run import Soak

    result = Soak(60.0, 3)
    result.equal["one call"] = 7
    if wrong:
        result.note("one call", "planted")
    monkeypatch.setattr(command, "soak", lambda *args: result)
    monkeypatch.setattr("sys.argv", ["soak", "--minutes", "1", "--page", str(tmp_path / "page.md")])
    assert command.main() == wrong
    assert f"| one call | 7 | {wrong} |" in (tmp_path / "page.md").read_text()
    assert ("planted" in capsys.readouterr().err) == bool(wrong)
