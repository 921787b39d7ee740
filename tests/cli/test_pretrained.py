"""Code that comes with a checkpoint never runs, and nobody is asked whether it may."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from transformers import AutoConfig
from typer.testing import CliRunner

from vtc.cli.app import app
from vtc.eval.lmms.bases import base_name
from vtc.pretrained import from_pretrained

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkpoint with Python of its own; ``y`` waits on the terminal."""

    def asked(*_: object) -> str:
        raise AssertionError("asked on the terminal")

    monkeypatch.setattr("builtins.input", asked)
    names = {"AutoConfig": "own.C", "AutoModelForImageTextToText": "own.M", "AutoProcessor": "own.P"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": names}))
    mark = tmp_path / "ran"
    (tmp_path / "own.py").write_text(
        f"open({str(mark)!r}, 'w').close()\nfrom transformers import PretrainedConfig\nC = M = P = PretrainedConfig\n"
    )
    yield tmp_path
    assert not mark.exists()


@pytest.mark.parametrize("words", [["run", "--model"], ["inspect"], ["viz", "--model"], ["eval", "quality", "--model"]])
def test_commands_refuse_it(folder, tmp_path_factory, monkeypatch, words):
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    result = CliRunner().invoke(app, [*words, str(folder)], input="y\n")
    assert result.exit_code == 1 and "brings Python code of its own, which vtc does not run" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_library_and_lmms_eval_refuse_it(folder):
    for load in (lambda: from_pretrained(AutoConfig, folder), lambda: base_name({"pretrained": str(folder)})):
        with pytest.raises(ValueError, match="brings Python code of its own.*vtc.patch"):
            load()


def test_every_auto_class_of_ours_goes_that_way():
    """Only the snippets shown to users, who load their own models, name ``AutoX.from_pretrained``."""
    shown = {"demos/app/code.py", "eval/training/card.py"}
    places = [p for room in ("vtc", "adapters", "eval", "demos", "kernels") for p in (ROOT / room).rglob("*.py")]
    found = {str(p.relative_to(ROOT)) for p in places if re.search(r"Auto\w+\.from_pretrained\(", p.read_text())}
    assert len(places) > 100 and found == shown
