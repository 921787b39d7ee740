"""``vtc eval run`` and ``vtc eval tasks``: the numbers of ``vtc eval quality``, resume, tables, several processes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="needs lmms-eval: pip install 'vtc[eval]'")

from typer.testing import CliRunner  # noqa: E402

from vtc.cli.app import app  # noqa: E402
from vtc.eval.lmms.rows import Row  # noqa: E402
from vtc.eval.quality.questions import FAMILIES  # noqa: E402
from vtc.eval.scenes import IMAGE_FAMILIES  # noqa: E402

DRIVER = """
import sys, torch
torch.set_num_threads(1)
from vtc.cli.app import main
main()
"""


def call(*args: str) -> Any:
    result = CliRunner().invoke(app, ["eval", *args])
    assert result.exit_code == 0, result.stderr[-2000:]
    return result


@pytest.fixture(autouse=True)
def cached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VTC_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("model", "families", "tasks", "each"),
    [("tiny-llava", IMAGE_FAMILIES, "auto", 2), ("tiny-qwen2_5-vl", FAMILIES, "vtc,vtc_video", 1)],
)
def test_scores_equal_the_quality_benchmark(
    model: str, families: tuple[str, ...], tasks: str, each: int, tmp_path: Path
) -> None:
    sweep = ["--methods", "none,random:seed=1", "--keep", "0.25,9", "--seed", "4", "--json", "--model", model]
    out = str(tmp_path / "out")
    found = json.loads(call("run", *sweep, "--tasks", tasks, "--limit", str(each), "--out", out).stdout)
    count = str(each * len(families))
    quality = json.loads(call("quality", *sweep, "--limit", count).stdout)
    theirs = {(r["method"], r["keep"], r["family"]): r for r in quality}
    names = {Row(f, "", "", (), f.startswith("video-")).task: f for f in families} | {"all": "all"}
    assert len(found) == len(quality) == 3 * (len(families) + 1)
    for line in found:
        row = theirs[line["method"], line["keep"], names[line["task"]]]
        assert line["n"] == row["n"]
        assert line["score"] == pytest.approx(row["accuracy"])
        assert line["tokens_retained"] == pytest.approx(row["retained"])
    if model == "tiny-llava":
        assert max(line["score"] for line in found) > 0


def test_resume_and_the_files(tmp_path: Path) -> None:
    args = ["run", "--tasks", "vtc_attribute,vtc_counting", "--limit", "2", "--out", str(tmp_path)]
    first = call(*args, "--methods", "none,random", "--keep", "0.25")
    assert "already there" not in first.stderr
    cell = tmp_path / "cells/random_0.25/vtc_attribute.json"
    written = cell.stat().st_mtime_ns
    again = call(*args, "--methods", "none,random", "--keep", "0.25,36")
    assert again.stderr.count("already there") == 4 and cell.stat().st_mtime_ns == written
    lines = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [(r["method"], r["keep"], r["task"]) for r in lines][:2] == [
        ("none", "", "vtc_attribute"),
        ("none", "", "vtc_counting"),
    ]
    assert len(lines) == 9 and {r["tokens_after"] for r in lines if r["method"] == "random"} == {"36.0"}
    none = [r for r in lines if r["method"] == "none" and r["task"] == "all"][0]
    assert none["score_retained"] in ("1.0", "") and none["tokens_retained"] == "1.0"
    assert "| random | - | 36 |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"
    sample = json.loads(cell.read_text())["samples"][1]
    assert sample["doc_id"] == 1 and sample["vtc"]["visual_after"] == 36 and sample["scores"]["exact"] in (0, 1)
    # another limit is another question
    other = call(*args[:4], "1", *args[5:], "--methods", "none")
    assert "already there" not in other.stderr


def test_a_saved_configuration_is_a_line_of_the_table(tmp_path: Path) -> None:
    import vtc

    file = vtc.Config([{"method": "random", "keep": 5}]).save(tmp_path / "five.json")
    args = ["--methods", "none", "--config", str(file), "--tasks", "vtc_attribute", "--limit", "1", "--json"]
    found = json.loads(call("run", *args, "--out", str(tmp_path)).stdout)
    assert [line["tokens_after"] for line in found] == [144, 5]


def test_the_group_without_tasks_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["eval", "run", "--tasks", " , ", "--out", str(tmp_path)])
    assert result.exit_code == 1 and "at least one task" in result.stderr


def test_one_and_two_processes_agree(checkpoint: Any, tmp_path: Path) -> None:
    """11 questions on 2 ranks: lmms-eval gives the second one a question twice, which must not be counted."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    found = {}
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        args = f"eval run --model {checkpoint('llava')} --methods random --keep 0.25 --tasks vtc_attribute".split()
        args += ["--limit", "11", "--device", "cpu", "--out", str(out)]
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
        launch = launch if ranks > 1 else [sys.executable]
        env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        result = subprocess.run([*launch, str(driver), *args], env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-3000:]
        cell = json.loads((out / "cells/random_0.25/vtc_attribute.json").read_text())
        assert cell["efficiency"]["run"]["samples"] == 11
        found[ranks] = cell
    names = ("answer", "scores", "doc_id")
    assert [{n: s[n] for n in names} for s in found[1]["samples"]] == [
        {n: s[n] for n in names} for s in found[2]["samples"]
    ]
    counts = ("visual_before", "visual_after", "sequence_after", "output_tokens", "kv_bytes")
    for one, two in zip(found[1]["samples"], found[2]["samples"], strict=True):
        assert {n: one["vtc"][n] for n in counts} == {n: two["vtc"][n] for n in counts}
    assert found[1]["results"] == found[2]["results"]
