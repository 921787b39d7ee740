"""Our own tasks: the questions of the quality benchmark, written once, pictures and videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("lmms_eval", reason="needs lmms-eval: pip install 'vtc[eval]'")

from vtc.eval.lmms import tasks as ours_tasks  # noqa: E402
from vtc.eval.lmms.docs import process_results  # noqa: E402
from vtc.eval.lmms.rows import rows  # noqa: E402
from vtc.eval.quality.questions import FAMILIES, test_set  # noqa: E402

from support.lmms import evaluate, ours  # noqa: E402

COLORS = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (200, 200, 200))


def clip(seed: int) -> tuple[Image.Image, ...]:
    return tuple(Image.new("RGB", (96, 64), COLORS[(seed + i) % 4]) for i in range(8))


def test_the_questions_are_those_of_the_quality_benchmark() -> None:
    expected = sorted(test_set(FAMILIES, 3 * len(FAMILIES), 7), key=lambda item: FAMILIES.index(item.family))
    mine = list(rows(3, 7))
    assert [(r.family, r.question, r.answer, r.is_video) for r in mine] == [
        (i.family, i.question, i.answer, i.is_video) for i in expected
    ]
    for row, item in zip(mine, expected, strict=True):
        assert [f.tobytes() for f in row.frames] == [f.tobytes() for f in item.frames]
    fewer = [row.question for row in rows(2, 7)]
    assert fewer == [row.question for i, row in enumerate(mine) if i % 3 < 2]


def test_a_folder_is_written_once(tmp_path: Path) -> None:
    first = ours_tasks.folder(2, seed=1, root=tmp_path)
    stamp = (first / "_vtc.yaml").stat().st_mtime_ns
    assert ours_tasks.folder(2, seed=1, root=tmp_path) == first and first.is_absolute()
    assert (first / "_vtc.yaml").stat().st_mtime_ns == stamp
    assert len({ours_tasks.folder(n, s, tmp_path) for n, s in ((2, 1), (3, 1), (2, 2))}) == 3
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    with pytest.raises(ValueError, match="at least 1"):
        ours_tasks.folder(0, root=tmp_path)


@pytest.mark.parametrize(("answer", "score"), [("Red.", 1.0), (" red", 1.0), ("reddish", 0.0), ("", 0.0)])
def test_scores_are_exact_matches(answer: str, score: float) -> None:
    assert process_results({"answer": "red"}, [answer]) == {"exact": score}


def test_videos_survive_being_written(tmp_path: Path) -> None:
    import numpy as np
    from decord import VideoReader

    frames = clip(0)
    ours_tasks.write_video(tmp_path / "x.mp4", frames)
    read = VideoReader(str(tmp_path / "x.mp4"))
    assert len(read) == len(frames)
    for index, frame in enumerate(frames):
        assert np.abs(read[index].asnumpy().astype(int) - np.asarray(frame)).mean() == 0


@pytest.mark.parametrize(
    ("name", "args", "simple"),
    [
        ("qwen2_5_vl", "max_num_frames=8,min_pixels=1024,max_pixels=4096", False),
        ("qwen3_vl", "max_num_frames=8,min_pixels=1024,max_pixels=4096", False),
        ("qwen2_5_vl", "base=generic", False),
        ("llava_onevision", "max_frames_num=8", True),
    ],
)
def test_video_tasks(name: str, args: str, simple: bool, checkpoint: Any, tasks: Path) -> None:
    counts = {}
    for keep in ("1.0", "0.25"):
        model = ours(checkpoint(name), f"method=pool,keep={keep},{args}", simple)
        model.keep_model = True
        evaluate(model, tasks, limit=1, names=("vtc_video",))
        assert [s.task for s in model.samples] == [f"vtc_video_{x}" for x in ("event", "frame", "order", "motion")]
        assert {image.modality for image in model.handle.last.images} == {"video"}
        counts[keep] = [(s.visual_before, s.visual_after) for s in model.samples]
    for (whole, all_), (before, after) in zip(counts["1.0"], counts["0.25"], strict=True):
        assert whole == all_ == before and after < 0.5 * before
