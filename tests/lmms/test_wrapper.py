"""``--model vtc``: the same answers as the stock class, fewer tokens, exact numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="needs lmms-eval: pip install 'vtc[eval]'")

from vtc.eval.quality.answers import LONGEST  # noqa: E402

from support.checkpoints import CHECKPOINTS  # noqa: E402
from support.lmms import TASK, answers, evaluate, ours, rows, stock  # noqa: E402

STOCK = [name for name in CHECKPOINTS if CHECKPOINTS[name][2] != "generic"]


@pytest.mark.parametrize("name", STOCK)
def test_same_answers_as_the_stock_class(name: str, checkpoint: Any, tasks: Path) -> None:
    path = checkpoint(name)
    expected = answers(evaluate(stock(name, path), tasks))
    assert all(expected)
    assert answers(evaluate(ours(path, "method=none"), tasks)) == expected
    model = ours(path, "method=divprune,keep=1.0")
    assert type(model).__mro__[2] is type(stock(name, path))
    assert answers(evaluate(model, tasks)) == expected


@pytest.mark.parametrize("name", ["llava", "qwen2_5_vl"])
def test_same_answers_as_the_stock_simple_class(name: str, checkpoint: Any, tasks: Path) -> None:
    path = checkpoint(name)
    model = ours(path, "method=none", simple=True)
    assert model.is_simple
    found = evaluate(model, tasks)
    assert answers(found) == answers(evaluate(stock(name, path, simple=True), tasks))
    # strings of the simple class became typed answers
    assert all(row["token_counts"][0]["input_tokens"] > 36 for row in rows(found))


def test_generic_base_answers_as_the_stock_class(checkpoint: Any, tasks: Path) -> None:
    path = checkpoint("llava")
    expected = answers(evaluate(stock("llava", path), tasks))
    assert answers(evaluate(ours(path, "base=generic,method=none"), tasks)) == expected
    batched = ours(path, "base=generic,method=none", batch=2)
    assert answers(evaluate(batched, tasks)) == expected
    assert sorted(s.batch for s in batched.samples) == [1, 2, 2]
    assert [s.doc_id for s in batched.samples] == [0, 1, 2]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_records_say_what_the_report_says(name: str, checkpoint: Any, tasks: Path, tmp_path: Path) -> None:
    path, file = checkpoint(name), tmp_path / "stats.json"
    plain = ours(path, "method=none")
    evaluate(plain, tasks)
    model = ours(path, f"method=divprune,keep=0.25,stats_path={file}")
    model.keep_model = True
    results = evaluate(model, tasks)
    full, cut = plain.samples, model.samples
    assert [s.doc_id for s in cut] == [s.doc_id for s in full] == [0, 1, 2]
    for whole, part in zip(full, cut, strict=True):
        assert whole.visual_after == whole.visual_before == part.visual_before
        assert whole.sequence_after == whole.sequence_before == part.sequence_before
        assert 0 < part.visual_after < 0.3 * part.visual_before
        assert part.sequence_before - part.sequence_after == part.visual_before - part.visual_after
        assert part.kv_bytes < whole.kv_bytes == whole.kv_bytes_full
        assert part.kv_bytes_full == whole.kv_bytes
        assert 0 < part.prefill_ms <= part.first_token_ms <= part.total_ms
        assert part.output_tokens == LONGEST
    _check_last(model, cut)
    assert [r["token_counts"][0]["input_tokens"] for r in rows(results)] == [s.sequence_after for s in cut]
    mean = sum(s.visual_after for s in cut) / len(cut)
    assert results["throughput"]["avg_vtc_visual_after"] == pytest.approx(mean)
    assert results["throughput"][f"avg_vtc_visual_after/{TASK}"] == pytest.approx(mean)
    side = json.loads(file.read_text())
    assert side["samples"] == [s.to_dict() for s in cut]
    assert side["run"] == side["tasks"][TASK] == json.loads(json.dumps(model.numbers()["run"]))


def _check_last(model: Any, cut: list[Any]) -> None:
    """The report of the handle is about the last picture that was answered; some classes answer in another order."""
    report = model.handle.report().to_dict()
    images = report["images"]
    sizes = (report["visual_tokens"]["before"], report["visual_tokens"]["after"], report["sequence"]["after"][0])
    assert sizes in {(s.visual_before, s.visual_after, s.sequence_after) for s in cut}
    assert report["kv_bytes"]["after"] in {s.kv_bytes for s in cut}
    assert sum(image["after"] for image in images) == sizes[1]


def test_methods_inside_the_decoder_report_the_mean_over_layers(checkpoint: Any, tasks: Path) -> None:
    from vtc.core.stage import Decoder, Stage
    from vtc.eval.lmms.samples import Sample
    from vtc.methods import Random

    class Late(Random):
        def stages(self, facts: Any) -> list[Stage]:
            return [Stage(at=Decoder(1), select=self.select, keep_count=self.keep_count)]

    import vtc

    model = ours(checkpoint("llava"), "method=none")
    model.keep_model = True
    model.handle.remove()
    model.handle = vtc.patch(model.model, [Late(keep=0.25)])
    evaluate(model, tasks, limit=1)
    found: Sample = model.samples[0]
    assert (found.visual_before, found.visual_after) == (36, 9)
    assert found.visual_mean == (36 + 3 * 9) / 4 == model.handle.report().data["visual_tokens"]["mean_over_layers"]


def test_another_setting_on_the_same_weights(checkpoint: Any, tasks: Path) -> None:
    from vtc.eval.lmms.arguments import Settings

    model = ours(checkpoint("llava"), "method=none")
    model.keep_model = True
    before = answers(evaluate(model, tasks))
    model.use(Settings("random", 4))
    evaluate(model, tasks)
    assert {s.visual_after for s in model.samples} == {4}
    model.use(Settings("none"))
    assert answers(evaluate(model, tasks)) == before


def test_cleaning_up_frees_the_model(checkpoint: Any, tasks: Path) -> None:
    model = ours(checkpoint("llava"), "method=random,keep=4")
    evaluate(model, tasks, limit=1)
    assert "_model" not in vars(model) and "handle" not in vars(model)
