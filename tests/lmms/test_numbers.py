"""Efficiency numbers, tables, and what is filled in for this machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vtc.eval.lmms.arguments import Settings
from vtc.eval.lmms.samples import Sample, _new_tokens, by_task, summary
from vtc.eval.lmms.table import lines, markdown, score_of

ONE = Sample("t", "test", 0, 100, 25, 50.0, 120, 45, 5, 1, 10.0, 20.0, 60.0, 450.0, 1200.0)


def test_summary_means_counts_and_takes_medians_of_times() -> None:
    slow = replace(ONE, doc_id=1, visual_before=300, visual_after=75, prefill_ms=1000.0, output_tokens=1)
    found = summary([slow, ONE, replace(ONE, doc_id=2)])
    assert found["samples"] == 3 and found["retained"] == 0.25
    assert found["visual_before"] == pytest.approx(500 / 3)
    assert found["prefill_ms"] == 10.0
    assert found["decode_tokens_per_s"] == pytest.approx(4 / 0.040)
    assert summary([]) == {"samples": 0}


def test_decode_speed_counts_all_rows_of_a_call() -> None:
    pair = [replace(ONE, batch=2), replace(ONE, doc_id=1, batch=2)]
    assert summary(pair)["decode_tokens_per_s"] == pytest.approx(8 / 0.040)


def test_text_only_answers_retain_everything() -> None:
    assert summary([replace(ONE, visual_before=0, visual_after=0)])["retained"] == 1.0


def test_tasks_and_documents_are_in_order() -> None:
    groups = by_task([replace(ONE, doc_id=2), replace(ONE, task="a"), ONE])
    assert list(groups) == ["a", "t"] and [s.doc_id for s in groups["t"]] == [0, 2]


@pytest.mark.parametrize(
    ("ids", "pad", "count"),
    [([5, 6, 7], 0, 3), ([5, 6, 0, 0], 0, 3), ([5, 6, 0, 0], None, 4), ([0, 0], 0, 1), ([], 0, 0)],
)
def test_new_tokens_leave_padding_out(ids: list[int], pad: int | None, count: int) -> None:
    assert _new_tokens(torch.tensor(ids, dtype=torch.long), pad) == count


def _cell(method: str, keep: float | None, scores: dict[str, float], kept: int) -> dict[str, Any]:
    costs = summary([replace(ONE, visual_after=kept)])
    return {
        "key": {"settings": {"method": method, "keep": keep, "options": {}, "config": None}},
        "results": {task: {"acc,none": score, "acc_stderr,none": 0.5} for task, score in scores.items()},
        "metrics": dict.fromkeys(scores, "acc"),
        "n": dict.fromkeys(scores, 4),
        "efficiency": {"run": costs, "tasks": dict.fromkeys(scores, costs)},
    }


def test_the_table_compares_with_the_unpatched_model() -> None:
    done = [_cell("none", None, {"a": 0.5, "b": 0.7}, 100), _cell("random", 0.25, {"a": 0.4, "b": 0.2}, 25)]
    found = {(line["method"], line["task"]): line for line in lines(done)}
    whole = found["random", "all"]
    assert whole["score"] == pytest.approx(0.3) and whole["score_retained"] == pytest.approx(0.5)
    assert whole["tokens_retained"] == 0.25 and whole["n"] == 8
    assert found["random", "a"]["score_retained"] == pytest.approx(0.8)
    assert "| random | - | 0.25 | 0.400 | 0.200 | 0.300 | 50.0% |" in markdown(list(found.values()))


def test_without_the_unpatched_model_there_is_no_share() -> None:
    assert lines([_cell("random", 0.25, {"a": 0.4}, 25)])[0]["score_retained"] is None


def test_the_score_is_the_metric_the_task_names_first() -> None:
    results = {"alias": "x", "submission,none": [], "other,none": 1.0, "acc,none": 0.25, "acc_stderr,none": 0.1}
    assert score_of(results, "acc") == ("acc", 0.25)
    assert score_of(results, None) == ("other", 1.0)
    assert score_of({"alias": "x"}, "acc") == (None, None)


@pytest.mark.parametrize("setting", [Settings("random", 4), Settings("random", 0.5, {"seed": 3})])
def test_every_setting_has_a_folder_of_its_own(setting: Settings) -> None:
    from vtc.eval.lmms.runner import slug

    others = [Settings("none"), Settings("random", 5), Settings("random", 0.5), Settings("random", 0.5, {"seed": 4})]
    assert slug(setting) not in {slug(other) for other in others}
