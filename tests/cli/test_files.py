"""Files that users name, and configurations in them: what is none is refused in one sentence that says what."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

import vtc
from vtc.cli.app import app
from vtc.eval.calibration.samples import read_samples
from vtc.eval.calibration.study import Study
from vtc.eval.lmms.arguments import Settings
from vtc.files import file_to_write, parse_json, read_json, read_text


@pytest.fixture(autouse=True)
def in_time():
    """A read that blocks fails instead of hanging."""

    def stop(*_: object) -> None:
        raise AssertionError("blocked")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ('{"method": "pool", "keep": Infinity}', ValueError, ["keep=inf"]),
        ('{"method": "pool", "keep": 1e999}', ValueError, ["keep=inf"]),
        ('{"method": "pool", "keep": NaN}', ValueError, ["keep=nan"]),
        ('{"method": ' + "[" * 100_000 + "]" * 100_000 + "}", ValueError, ["nested too deep"]),
        ('{"method": ["pool"]}', TypeError, ["method=['pool'] is a list", "name of a method"]),
        ('{"method": null}', TypeError, ["method=None"]),
        ('{"methods": 5}', TypeError, ["methods=5 is an int"]),
        ('{"methods": []}', ValueError, ['needs a "method"']),
        ('{"methods": {"method": "pool"}}', TypeError, ["methods="]),
        ('{"methods": [5]}', TypeError, ["methods holds 5, an int"]),
        ('{"methods": ["method"]}', TypeError, ["methods holds 'method', a str"]),
        ('{"methods": [{"method": "pool"}], "keep": 0.1}', ValueError, ["no keys beside it", "'keep'"]),
        ('{"method": "vidcom2", "temperature": "x"}', TypeError, ["temperature='x' is a str"]),
        ('{"method": "random", "seed": 1.5}', TypeError, ["seed=1.5 is a float"]),
        ('{"method": "random", "seed": "last"}', TypeError, ["seed='last' is a str"]),
        ('{"method": "random", "seed": ' + "9" * 5000 + "}", ValueError, ["is not JSON"]),
        ('{"method": "transprune", "ratios": 3.0}', TypeError, ["ratios=3.0 is a float"]),
        ('{"method": "vflowopt", "exact_budget": "false"}', TypeError, ["exact_budget='false'"]),
        ('{"method": "vflowopt", "exact_budget": 0}', TypeError, ["exact_budget=0"]),
        ('{"method": "pool", "method": "random"}', ValueError, ["'method' is there twice"]),
        ("[]", ValueError, ["a list; a vtc configuration is a JSON object"]),
        ("", ValueError, ["is not JSON"]),
    ],
)
def test_bad_configurations_are_refused_when_they_are_loaded(tmp_path, text, error, words):
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(error) as caught:
        vtc.load(file)
    said = str(caught.value)
    assert "mine.json" in said and all(word in said for word in words) and "\n" not in said and len(said) < 700


def test_configurations_from_python_are_checked_too():
    for wrong in (5, ["pool"], {"methods": [5]}, {"methods": [{"method": "pool", 3: 4}]}):
        with pytest.raises(TypeError, match="methods|configuration"):
            vtc.Config.from_dict(wrong)
    with pytest.raises(TypeError, match="path=5"):
        vtc.load(5)
    with pytest.raises(TypeError, match="method=5"):
        vtc.Config([{"method": 5}]).build()


def test_only_regular_files_are_read(tmp_path):
    for path, kind in ((pipe(tmp_path), "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(ValueError, match=f"{kind}, no regular file"):
            vtc.load(path)
    with pytest.raises(ValueError, match="a folder, no regular file"):
        read_text(tmp_path, "text")
    with pytest.raises(ValueError, match="no path"):
        vtc.load("a\0b")
    with pytest.raises(OSError, match="vtc configuration"):
        vtc.load("x" * 5000)


def test_texts_are_bounded_and_in_utf_8(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(file, "text") == {"a": 1}
    with pytest.raises(ValueError, match="larger than"):
        read_text(file, "text", most=5)
    file.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        read_json(file, "text")
    with pytest.raises(ValueError, match="'b' is there twice"):
        parse_json('{"a": {"b": 1, "b": 2}}', "it")


def test_only_regular_files_are_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path, kind in ((pipe(tmp_path), "a pipe"), (Path("/dev/null"), "a device"), (tmp_path, "a folder")):
        with pytest.raises(ValueError, match=f"Cannot write the picture.*{kind}"):
            file_to_write(path, "picture")
    with pytest.raises(ValueError, match="no folder"):
        file_to_write(tmp_path / "file" / "a.png", "picture")
    assert file_to_write(tmp_path / "new" / "a.png", "picture").parent.is_dir()
    with pytest.raises(ValueError, match="a pipe"):
        vtc.Config([{"method": "pool"}]).save(tmp_path / "pipe")
    with pytest.raises(ValueError, match="a pipe"):
        Settings(stats_path=str(tmp_path / "pipe")).check()


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--out", "FILE"],
        ["viz", "--out", "FOLDER.png"],
        ["viz", "--out", "FILE/a.png"],
        ["eval", "quality", "--out", "FILE"],
        ["eval", "run", "--out", "FILE"],
        ["calibrate", "--model", "tiny-llava", "--data", "FILE", "--out", "FILE/a.json"],
    ],
)
def test_outputs_that_cannot_be_written_are_refused_before_a_model_is_loaded(tmp_path, monkeypatch, words):
    monkeypatch.setattr("vtc.cli.loading.load", None)
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FOLDER.png").mkdir()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and result.stderr.startswith("Error: Cannot write"), result.stderr
    assert (tmp_path / "FILE").read_text() == "x"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1]", "line 2: expected"),
        ('{"image": "a.png"}', "line 2: expected"),
        ('{"image": "a.png", "question": null}', "line 2: expected"),
        ('{"image": 5, "question": "?"}', "line 2: expected"),
        ("[" * 100_000, "line 2, is not JSON.*nested too deep"),
    ],
)
def test_samples_that_are_none(tmp_path, line, words):
    (tmp_path / "a.png").write_text("")
    file = tmp_path / "s.jsonl"
    file.write_text('{"image": "a.png", "question": "?"}\n' + line)
    with pytest.raises(ValueError, match=words):
        read_samples(file)


def test_trials_that_are_none(tmp_path):
    file = tmp_path / "t.json"
    for data in ([1], {"settings": {}}, {"settings": [], "trials": []}):
        file.write_text(json.dumps(data))
        with pytest.raises(ValueError, match="no file of trials"):
            Study({"x": (0.0, 1.0)}, path=file)
    with pytest.raises(ValueError, match="a pipe"):
        Study({"x": (0.0, 1.0)}, path=pipe(tmp_path))
