"""Errors are never scored as wrong answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="needs lmms-eval: pip install 'vtc[eval]'")

from typer.testing import CliRunner  # noqa: E402

import vtc.methods  # noqa: E402
from vtc.cli.app import app  # noqa: E402
from vtc.eval.lmms.failure import EvaluationError  # noqa: E402

from support.lmms import Announced, evaluate, ours  # noqa: E402


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(vtc.methods, "_plugins", lambda: {"broken": Announced()})
    vtc.methods._class.cache_clear()
    yield
    vtc.methods._class.cache_clear()


# llava_hf swallows errors of generate and goes on, qwen2_5_vl does not
@pytest.mark.parametrize(("name", "calls"), [("llava", 5), ("qwen2_5_vl", 3), ("vipllava", 3)])
def test_a_broken_method_fails_the_run(name: str, calls: int, checkpoint: Any, tasks: Path, broken: None) -> None:
    model = ours(checkpoint(name), "method=broken,keep=4")
    with pytest.raises(EvaluationError, match=f"^1 of {calls} calls of generate failed: ZeroDiv.* broke it\n"):
        evaluate(model, tasks, limit=5)
    assert "generate" not in vars(model.model)


def test_the_command_line_exits_with_1(tmp_path: Path, broken: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VTC_CACHE", str(tmp_path / "cache"))
    result = CliRunner().invoke(
        app,
        [
            "eval",
            "run",
            "--methods",
            "none,broken",
            "--tasks",
            "vtc_reading",
            "--limit",
            "3",
            "--out",
            str(tmp_path),
        ],
    )
    assert result.exit_code == 1
    message = "1 of 3 calls of generate failed: ZeroDivisionError: the third picture broke it"
    assert f"Error: {message}" in result.stderr and "Traceback (most recent call last)" in result.stderr
    # what was finished is kept, what failed is not, and no table hides it
    assert (tmp_path / "cells/none/vtc_reading.json").is_file()
    assert not list(tmp_path.glob("cells/broken*/*.json")) and not (tmp_path / "results.csv").exists()


@pytest.mark.slow
def test_the_command_line_of_lmms_eval_exits_with_1(
    checkpoint: Any, tasks: Path, broken: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from lmms_eval.__main__ import cli_evaluate

    args = f"--model vtc --model_args pretrained={checkpoint('llava')},method=broken --tasks vtc_attribute"
    monkeypatch.setattr(sys, "argv", ["lmms_eval", *args.split(), *f"--include_path {tasks} --limit 5".split()])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--device", "cpu", "--batch_size", "1"])
    with pytest.raises(SystemExit) as raised:
        cli_evaluate()
    assert raised.value.code == 1
    assert "ZeroDivisionError: the third picture broke it" in capsys.readouterr().err
