from __future__ import annotations

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from vtc.cli.app import app


def call(*words, status=0):
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr


def test_viz_draws_one_method(tmp_path):
    out = tmp_path / "folder" / "a.webp"
    result = json.loads(call("viz", "--keep", "16", "--mode", "order", "--out", str(out), "--json"))
    assert result["methods"] == {"vtc-cls": {"before": 144, "after": 16}} and result["skipped"] == {}
    assert Image.open(out).width >= 336


def test_viz_draws_several_methods_of_a_turned_picture(tmp_path):
    path, out = tmp_path / "a.jpg", tmp_path / "b.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((400, 200), 80).save(path, exif=exif)
    words = ["viz", str(path), "--model", "tiny-qwen2_5-vl", "--methods", "pool,random,todre", "--out", str(out)]
    text = call(*words)
    assert "pool: " in text and "Picture: " in text
    picture = Image.open(out)
    assert picture.width == 3 * 200 + 2 * 6  # upright: 200 x 400
    text = call(*words, "--mode", "scores")
    assert "pool: skipped, This method gives no scores" in text and "todre: " in text


def test_viz_shows_all_methods(tmp_path):
    from vtc.methods import list_methods

    result = json.loads(call("viz", "--methods", "all", "--out", str(tmp_path / "all.png"), "--json"))
    assert set(result["methods"]) | set(result["skipped"]) == set(list_methods())
    assert {"pool", "vtc-cls", "todre"} <= set(result["methods"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "heat"], "'heat' is not allowed; choose one of kept, scores, groups, order"),
        (["--methods", "pol"], "Did you mean 'pool'"),
        (["--methods", " , "], "Nothing to draw"),
        (["--methods", "pool", "--mode", "scores"], "no scores"),
        (["--methods", "pool,random", "--mode", "scores"], "None of these methods can be shown"),
        (["--out", "picture.txt"], "does not end like a picture"),
        (["no-such.png"], "does not exist"),
        (["--keep", "2.0"], "a share"),
    ],
)
def test_viz_refuses(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = call("viz", *words, status=1)
    assert text.startswith("Error: ") and message in text and len(text.splitlines()) == 1


def test_demo_without_gradio_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "pip install 'vtc[demo]'" in call("demo", status=1)


def test_demo_passes_its_settings_on_and_is_private_by_default(monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install gradio")
    given = {}
    monkeypatch.setattr("vtc.demos.app.serve", lambda **settings: given.update(settings))
    call("demo")
    assert given["host"] == "127.0.0.1" and given["share"] is False and given["models"] == []
    call("demo", "--port", "7999", "--model", "a/b", "--share")
    assert given["port"] == 7999 and given["models"] == ["a/b"] and given["share"] is True
