from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vtc.cli.app import app
from vtc.cli.values import parse_keep, parse_options, read_image


def call(*words):
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def loaded_modules(code):
    script = f"import sys\n{code}\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())


def test_help_loads_nothing_heavy():
    code = "from vtc.cli.app import app\nfrom typer.testing import CliRunner\n"
    out, modules = loaded_modules(code + "r = CliRunner().invoke(app, ['--help'])\nprint(r.output, r.exit_code)")
    assert "inspect" in out and out.split()[-1] == "0"
    assert not modules & {"torch", "transformers", "numpy", "PIL", "gradio", "matplotlib", "triton"}


def test_import_vtc_loads_nothing_heavy():
    _, modules = loaded_modules("import vtc")
    assert not modules & {"transformers", "triton", "gradio", "lmms_eval", "matplotlib"}


def test_bare_call_prints_examples():
    out = call()
    assert "vtc run" in out and "vtc doctor" in out


@pytest.mark.parametrize(("text", "value"), [("16", 16), ("0.25", 0.25), ("1", 1), ("1.0", 1.0), (" 8 ", 8)])
def test_keep_is_a_count_or_a_share(text, value):
    keep = parse_keep(text)
    assert keep == value and type(keep) is type(value)


def test_options_are_literals_or_text():
    pairs = ["seed=3", "t=0.5", "positions=keep", "start-layer=None", "flag=True", "name=a=b"]
    options = parse_options(pairs)
    assert options == {
        "seed": 3,
        "t": 0.5,
        "positions": "keep",
        "start_layer": None,
        "flag": True,
        "name": "a=b",
    }


def test_images_are_turned_upright(tmp_path):
    path = tmp_path / "x.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (40, 20)).save(path, exif=exif)
    image = read_image(path)
    assert image.size == (20, 40) and image.mode == "RGB"


def test_methods():
    found = {m["name"]: m for m in json.loads(call("methods", "--json"))}
    assert {"vtc-cls", "random", "pool"} <= set(found)
    assert found["vtc-cls"]["paper"] == "2412.05819" and "keep" in found["random"]["options"]
    table = call("methods")
    assert all(name in table for name in found)


def test_models():
    found = json.loads(call("models", "--json"))
    assert {"llava", "qwen2_5_vl"} <= {f["family"] for f in found["families"]}
    assert {e["name"] for e in found["embedded"]} == {"tiny-llava", "tiny-qwen2_5-vl"}
    assert "qwen2_5_vl" in call("models")


def test_doctor():
    found = json.loads(call("doctor", "--json"))
    assert found["packages"]["torch"] and found["problems"] == [] and found["transformers_range"]["floor"]
    assert "transformers" in call("doctor")


def test_path():
    folder = Path(call("path", "tiny-llava").strip())
    assert (folder / "config.json").is_file()
    assert json.loads(call("path", "photo", "--json"))["path"].endswith("photo.jpg")


@pytest.mark.parametrize(
    ("model", "tokens", "lattice"), [("tiny-llava", 144, [12, 12]), ("tiny-qwen2_5-vl", 64, [8, 8])]
)
def test_inspect(model, tokens, lattice):
    found = json.loads(call("inspect", model, "--json"))
    assert found["layout"] == [{"modality": "image", "tokens": tokens, "lattices": [lattice]}]
    assert found["facts"]["vision_layers"] in (4, 5) and found["facts"]["decoder_layers"] == 6
    assert {m["name"]: m["works"] for m in found["methods"]}["vtc-cls"] is True
    assert f"{tokens} tokens" in call("inspect", model)


def test_run_writes_pictures_and_a_report(tmp_path):
    out = call("run", "--json", "--out", str(tmp_path), "--method", "vtc-cls", "--keep", "16")
    result = json.loads(out)
    assert result["tokens"] == {"before": 144, "after": 16}
    assert result["answers"]["without"]["text"] == result["known_answer"]
    assert result["answers"]["with"]["total_ms"] > 0
    assert result["options"] == {}
    assert json.loads((tmp_path / "report.json").read_text()) == result
    pictures = [Path(p) for p in result["pictures"]]
    assert [p.name.rsplit("_", 1)[1] for p in pictures] == ["kept.png", "scores.png"]
    width, height = Image.open(pictures[0]).size
    assert width == 480 and 480 < height < 560


def test_run_with_two_images_and_an_option(tmp_path):
    files = []
    for i, size in enumerate([(200, 120), (90, 180)]):
        files.append(str(tmp_path / f"{i}.png"))
        Image.effect_noise(size, 80).save(files[-1])
    words = ["run", "--model", "tiny-qwen2_5-vl", "--question", "Same?", "--max-new-tokens", "3", "--json"]
    words += ["--image", files[0], "--image", files[1], "--method", "random", "--option", "seed=4"]
    result = json.loads(call(*words, "--keep", "0.5", "--out", str(tmp_path / "out")))
    assert result["images"] == files and len(result["pictures"]) == 2
    assert result["tokens"]["after"] * 2 == pytest.approx(result["tokens"]["before"], abs=2)
    assert result["report"]["config"]["seed"] == 4
    assert "tiny model" in result["note"]


def test_run_shows_answers_report_and_the_reason_of_auto(tmp_path):
    out = call("run", "--out", str(tmp_path))
    assert "without" in out and "vtc-cls" in out and "visual tokens" in out and "[CLS]" in out
    assert "Picture:" in out


def test_a_foreign_folder_goes_through_the_auto_classes(tmp_path):
    folder = call("path", "tiny-llava").strip()
    words = ["--method", "pool", "--question", "what color is the cup ?", "--json", "--out", str(tmp_path)]
    result = json.loads(call("run", "--model", folder, *words))
    assert result["model"] == "tiny-llava" and result["note"] == "" and result["options"] == {}
    assert result["tokens"]["before"] == 144


def test_eval_quality(tmp_path):
    words = ["eval", "quality", "--limit", "12", "--keep", "0.25,9", "--methods", "none,random:seed=2"]
    rows = json.loads(call(*words, "--json", "--out", str(tmp_path)))
    assert json.loads((tmp_path / "quality.json").read_text()) == rows
    (base,) = [r for r in rows if (r["method"], r["family"]) == ("none", "all")]
    assert [(r["method"], r["keep"]) for r in rows if r["family"] == "all"] == [
        ("none", None),
        ("random", 0.25),
        ("random", 9),
    ]
    assert [r["retained"] for r in rows if r["family"] == "all"] == [1.0, 0.25, 0.0625]
    assert all(r["relative"] == pytest.approx(r["accuracy"] / base["accuracy"]) for r in rows if r["family"] == "all")
    assert {path.suffix for path in tmp_path.iterdir()} >= {".json", ".csv", ".md"}
    assert all(r["n"] == (12 if r["family"] == "all" else 2) and 0 <= r["accuracy"] <= 1 for r in rows)
    assert rows[-1]["options"] == {"seed": 2}
    assert "tokens %" in call(*words)


def test_bench_selectors_prints_every_selector():
    words = ["--sizes", "64", "--dims", "16", "--repeats", "1", "--json"]
    rows = json.loads(call("bench", "selectors", *words))
    assert {row["selector"] for row in rows} >= {"random", "pool", "vtc-cls", "hired", "todre", "divprune", "visionzip"}
    assert all(row["ms"] >= 0 and row["kept"] > 0 for row in rows)
