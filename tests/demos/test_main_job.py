from __future__ import annotations

import json

from PIL import Image

import vtc
from vtc.demos import main_job


def test_main_job_leaves_sheets_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(vtc, "list_methods", lambda: ["vtc-cls", "pool", "divprune"])
    monkeypatch.setattr(main_job, "FAMILIES", ("attribute",))
    monkeypatch.setattr(main_job, "KEEPS", (16,))
    main_job.main(tmp_path)
    names = {path.name for path in tmp_path.glob("*.json")}
    tasks = ["tiny-llava_attribute", "tiny-qwen2_5-vl_attribute", "tiny-qwen2_5-vl_video-order"]
    assert names == {f"{task}.json" for task in tasks}
    report = json.loads((tmp_path / "tiny-llava_attribute.json").read_text())
    assert [(a["method"], a["keep"], a["after"]) for a in report["answers"]] == [
        ("none", None, 144),
        ("vtc-cls", 16, 16),
        ("pool", 16, 16),
        ("divprune", 16, 16),
    ]
    assert report["answers"][0]["exact"] and report["refused"] == {}
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {f"{task}_16_{mode}.png" for task in tasks for mode in ("kept", "scores")}
    assert all(Image.open(tmp_path / name).width >= 336 for name in pictures)
    assert "right answer" in capsys.readouterr().out


def test_a_method_that_cannot_run_is_named_with_its_reason(tmp_path, monkeypatch, capsys):
    loaded = main_job.load("tiny-llava")
    monkeypatch.setattr(vtc, "list_methods", lambda: ["random", "no-such"])
    monkeypatch.setattr(main_job, "KEEPS", (16,))
    (task, *_) = main_job._tasks("tiny-llava")
    results, refused = main_job._run(loaded, task, tmp_path)
    assert [r["method"] for r in results] == ["none", "random"] and set(refused) == {"no-such"}
    main_job._show(loaded, task, [{**r, "exact": True} for r in results], refused)
    assert "no-such: not here, " in capsys.readouterr().out
