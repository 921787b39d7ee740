"""``vtc doctor --prove``: tables, JSON, exit statuses."""

from __future__ import annotations

import json
import sys

import pytest
from typer.testing import CliRunner

from vtc.cli.app import app
from vtc.engine import cache as engine_cache
from vtc.proof import OBLIGATIONS, proving

FAMILY = "internvl"


def call(*words: str, status: int = 0):
    result = CliRunner().invoke(app, ["doctor", *words])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def two_families(monkeypatch):
    monkeypatch.setattr("vtc.adapters.list_families", lambda: ["internvl", "qwen3_5"])


def test_one_family_as_json():
    found = json.loads(call("--prove", "--family", FAMILY, "--json").stdout)
    assert found["packages"]["torch"] and found["problems"] == [], "what doctor says anyway"
    (verdict,) = found["proof"]["families"]
    assert found["proof"]["holds"] is True and verdict["family"] == FAMILY
    assert set(verdict["obligations"]) == set(OBLIGATIONS)
    for entry in verdict["obligations"].values():
        assert entry["outcome"] == "holds" and entry["seconds"] > 0 and entry["difference"] <= 1e-5
    assert verdict["versions"]["transformers"] == found["packages"]["transformers"]


def test_one_family_as_a_table():
    out = call("--prove", "--family", FAMILY).stdout
    assert "Proof of internvl" in out and all(name in out for name in OBLIGATIONS)
    assert "differs" not in out and "inside" in out


def test_all_families_in_one_table(two_families):
    out = call("--prove").stdout
    rows = [line for line in out.splitlines() if "internvl" in line or "qwen3_5" in line]
    assert "holds exactly" in rows[0] and "refused 1 of 3" in rows[1]
    (reason,) = [line for line in out.splitlines() if line.startswith("Refused")]
    assert "qwen3_5 (identical, masking, cache, batch, unpatch, kv): Decoder layers" in reason


def test_without_prove_nothing_is_proved(monkeypatch):
    monkeypatch.setattr(proving, "prove", None)
    assert "proof" not in json.loads(call("--json").stdout)


@pytest.mark.parametrize("words", [["--family", FAMILY], []])
def test_a_difference_is_exit_status_1(monkeypatch, two_families, words):
    monkeypatch.setattr(engine_cache, "commit", lambda *args: None)
    result = call("--prove", *words, status=1)
    assert "Differs: internvl: masking differs on internvl, before" in result.stderr
    assert "differs" in result.stdout or "DIFFERS" in result.stdout
    found = json.loads(call("--prove", *words, "--json", status=1).stdout)
    assert found["proof"]["holds"] is False
    first = found["proof"]["families"][0]["obligations"]
    assert first["masking"]["outcome"] == "differs" and first["identical"]["outcome"] == "holds"


def test_a_crash_is_exit_status_1(monkeypatch):
    def crash(*args):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(engine_cache, "commit", crash)
    result = call("--prove", "--family", FAMILY, "--json", status=1)
    (verdict,) = json.loads(result.stdout)["proof"]["families"]
    assert verdict["obligations"]["masking"]["reasons"] == ["RuntimeError: no such kernel"]


def test_an_engine_that_cannot_be_imported_is_exit_status_1(monkeypatch):
    monkeypatch.setitem(sys.modules, "vtc.proof.proving", None)
    result = call("--prove", "--json", status=1)
    (verdict,) = json.loads(result.stdout)["proof"]["families"]
    assert verdict["holds"] is False and "ModuleNotFoundError" in verdict["obligations"]["import"]["reasons"][0]


def test_infinite_differences_are_json(monkeypatch):
    monkeypatch.setattr("vtc.proof.obligations.difference", lambda *args: float("inf"))
    result = call("--prove", "--family", FAMILY, "--json", status=1)
    (verdict,) = json.loads(result.stdout, parse_constant=pytest.fail)["proof"]["families"]
    assert verdict["obligations"]["masking"]["difference"] == "inf"


def test_a_family_the_release_does_not_have_is_refused(monkeypatch):
    monkeypatch.setattr(proving, "too_old", lambda: {FAMILY: "9.1"})
    out = call("--prove", "--family", FAMILY).stdout
    assert "Needs transformers >= 9.1, found" in out and "holds" not in out


def test_a_config_of_a_model():
    found = json.loads(call("--prove", "--model", "tiny-llava", "--json").stdout)
    (verdict,) = found["proof"]["families"]
    assert verdict["family"] == "llava" and verdict["findings"][0]["setup"] == "llava as configured"


def test_a_folder_with_a_config_alone(tmp_path):
    import transformers as tf

    tf.LlavaConfig(vision_config=tf.CLIPVisionConfig(), text_config=tf.LlamaConfig()).save_pretrained(tmp_path)
    assert "Proof of llava" in call("--prove", "--model", str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--family", "lava"], "Did you mean 'llava'"),
        (["--model", "./nowhere"], "no such folder"),
        (["--model", "tiny-lava"], "Did you mean 'tiny-llava'"),
    ],
)
def test_errors_teach(words, text):
    result = call("--prove", *words, status=1)
    assert text in result.stderr and result.stderr.count("\n") == 1 and result.stdout == ""


def test_a_text_model_is_refused(tmp_path):
    import transformers as tf

    tf.LlamaConfig().save_pretrained(tmp_path)
    result = call("--prove", "--model", str(tmp_path), status=1)
    assert "'llama' cannot be shrunk" in result.stderr


@pytest.mark.parametrize("words", [["--family", "llava"], ["--prove", "--family", "llava", "--model", "tiny-llava"]])
def test_wrong_usage_has_status_2(words):
    assert call(*words, status=2).stdout == ""


def test_problems_come_before_proofs(monkeypatch):
    monkeypatch.setattr("vtc.cli.doctor._problems", lambda: ["transformers is too old"])
    monkeypatch.setattr(proving, "prove", None)
    found = json.loads(call("--prove", "--json", status=1).stdout)
    assert found["proof"] == {"holds": False, "families": []} and found["problems"] == ["transformers is too old"]
