from __future__ import annotations

import json

import pytest
from transformers import LlamaConfig
from typer.testing import CliRunner

from vtc.cli.app import app


def call(*words):
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no picture")
    return str(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--method", "vtc-clss"], "Did you mean 'vtc-cls'"),
        (["run", "--keep", "25.0"], "keep=25"),
        (["run", "--keep", "0"], "must be >= 1"),
        (["run", "--keep", "-1"], "must be >= 1"),
        (["run", "--keep", "nan"], "(0, 1]"),
        (["run", "--keep", "half"], "no number"),
        (["run", "--method", "random", "--option", "sead=1"], "Did you mean 'seed'"),
        (["run", "--method", "random", "--option", "seed"], "name=value"),
        (["run", "--question", " "], "question is empty"),
        (["run", "--image", "missing.png", "--question", "x"], "'missing.png' does not exist"),
        (["run", "--model", "./missing", "--question", "x"], "no such folder"),
        (["run", "--model", "tiny-lava", "--question", "x"], "Did you mean 'tiny-llava'"),
        (["inspect", "./missing"], "no such folder"),
        (["path", "tiny-lava"], "Did you mean 'tiny-llava'"),
        (["eval", "quality", "--methods", "randon"], "Did you mean 'random'"),
        (["eval", "quality", "--methods", ","], "at least one method"),
        (["eval", "quality", "--methods", "random:sead=1"], "Did you mean 'seed'"),
        (["eval", "quality", "--keep", "0.25,2.0"], "keep=2"),
        (["run", "--keep", "1e999"], "keep=inf"),
        (["run", "--method", "vflowopt", "--option", "exact_budget=fasle"], "exact_budget='fasle'"),
        (["run", "--method", "random", "--option", "seed=1.5"], "pass a whole number"),
        (["run", "--method", "random", "--option", "keep=0.5"], "--keep"),
        (["run", "--option", "processor=1"], "no option 'processor'"),
        (["eval", "quality", "--methods", "random:seed=x"], "seed='x'"),
        (["eval", "run", "--methods", "vtc-cls:ensemble=summ"], "Did you mean 'sum'"),
        (["bench", "selectors", "--sizes", "0"], "--sizes '0'"),
        (["bench", "selectors", "--dims", "9" * 30], "--dims"),
        (["bench", "selectors", "--device", "meta"], "holds no numbers"),
        (["run", "--device", "gpu"], "--device 'gpu' cannot be used; choose auto or one of cpu"),
        (["calibrate", "--model", "x", "--data", "x", "--keep", "nan"], "keep=nan"),
    ],
)
def test_errors_are_one_line_on_stderr_with_status_1(words, message):
    result = call(*words)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_no_image(text_file):
    result = call("run", "--image", text_file, "--question", "what ?")
    assert result.exit_code == 1 and "not an image" in result.stderr


def test_an_image_without_a_question(text_file):
    result = call("run", "--image", text_file)
    assert result.exit_code == 1 and "--question" in result.stderr


@pytest.mark.parametrize("command", [["run", "--question", "x", "--model"], ["inspect"]])
def test_a_model_that_is_no_vlm(tmp_path, command):
    LlamaConfig(hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path)
    result = call(*command, str(tmp_path))
    assert result.exit_code == 1 and "no vision-language model" in result.stderr


def test_a_folder_without_a_model(tmp_path):
    result = call("run", "--question", "x", "--model", str(tmp_path))
    assert result.exit_code == 1 and "config.json" in result.stderr


def test_a_broken_configuration(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hello": 1}))
    result = call("run", "--question", "x", "--model", str(tmp_path))
    assert result.exit_code == 1 and "Cannot load the configuration" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--keepp", "1"],
        ["runn"],
        ["eval", "quality", "--limit", "0"],
        ["path"],
        ["run", "--max-new-tokens", "9" * 30],
    ],
)
def test_wrong_usage_has_status_2(words):
    result = call(*words)
    assert result.exit_code == 2 and result.stdout == ""
    assert "Traceback" not in result.stderr


def test_debugging_shows_the_exception(monkeypatch):
    monkeypatch.setenv("VTC_DEBUG", "1")
    result = call("run", "--keep", "0")
    assert isinstance(result.exception, ValueError)


def test_unexpected_errors_name_their_type(monkeypatch):
    def broken():
        raise ZeroDivisionError("nothing\nto divide")

    monkeypatch.setattr("vtc.cli.doctor._problems", broken)
    result = call("doctor")
    assert result.exit_code == 1
    assert result.stderr == "Error: ZeroDivisionError: nothing to divide (set VTC_DEBUG=1 for the traceback)\n"
