from __future__ import annotations

import json

from PIL import Image
from vtc.demos import main_job


def test_main_job_leaves_pictures_and_reports(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main_job, "METHODS", ("vtc-cls", "pool"))
    monkeypatch.setattr(main_job, "FAMILIES", ("attribute",))
    monkeypatch.setattr(main_job, "SCENE_KEEPS", (16,))
    monkeypatch.setattr(main_job, "PHOTO_KEEPS", (0.25,))
    main_job.main(tmp_path)
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {"tiny-llava_scene-attribute.json", "tiny-llava_photo.json", "tiny-qwen2_5-vl_photo.json"}
    report = json.loads((tmp_path / "tiny-llava_scene-attribute.json").read_text())
    assert [(a["method"], a["keep"], a["after"]) for a in report["answers"]] == [
        ("none", None, 64),
        ("vtc-cls", 16, 16),
        ("pool", 16, 16),
    ]
    assert report["answers"][0]["text"] == report["known_answer"]
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 9  # kept and scores of vtc-cls, kept of pool, three times
    assert all(Image.open(path).width >= 336 for path in pictures)
    assert "mean nothing" in capsys.readouterr().out
