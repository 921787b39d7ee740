from __future__ import annotations

import csv
import io

import numpy as np
import pytest
import torch

import vtc
from vtc.demos.embedded import load_embedded
from vtc.eval.quality import Benchmark, evaluate
from vtc.eval.quality.answers import answer_items, is_exact, normalise
from vtc.eval.quality.bootstrap import interval, ratio_interval
from vtc.eval.quality.digests import DIGESTS
from vtc.eval.quality.questions import FAMILIES, PER_FAMILY, digest, family_items, test_set
from vtc.eval.quality.report import FIELDS, to_csv, to_markdown, write_all
from vtc.eval.scenes import IMAGE_FAMILIES, TRAIN_SEEDS
from vtc.eval.scenes.video_questions import VIDEO_FAMILIES

START = 8
PUBLISHED = ("vtc-cls", "hired", "todre", "vflowopt", "transprune")
"""Methods of the papers this package implements that work on single pictures."""


@pytest.fixture(scope="module")
def bench():
    return Benchmark(*load_embedded("tiny-llava"), limit=24, batch=12, model_name="tiny-llava")


@pytest.mark.parametrize(("text", "normal"), [("4 2", "42"), (" Red. ", "red"), ("1 0 3", "103"), ("a 4 2", "a 42")])
def test_answers_are_compared_without_blanks_between_digits(text, normal):
    assert normalise(text) == normal


def test_a_longer_answer_is_not_exact():
    assert is_exact("4 2", "42") and not is_exact("4 2 1", "42") and not is_exact("4", "42")


def test_test_sets_are_repeatable_balanced_and_apart_from_training():
    first, again, other = (test_set(IMAGE_FAMILIES, 20, seed) for seed in (0, 0, 1))
    assert digest(first) == digest(again) != digest(other)
    assert [i.family for i in first[:6]] == list(IMAGE_FAMILIES) and len(first) == 20
    assert not {i.seed for i in first} & {i.seed for i in other}
    assert max(i.seed for i in other) < TRAIN_SEEDS


@pytest.mark.parametrize("family", FAMILIES)
def test_the_start_of_the_test_set_is_the_pinned_one(family):
    assert digest(family_items(family, START)) == DIGESTS[f"{family}/{START}"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_full_test_set_is_the_pinned_one(family):
    assert digest(family_items(family, PER_FAMILY)) == DIGESTS[f"{family}/{PER_FAMILY}"]


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="Unknown family 'smell'.*spatial"):
        family_items("smell", 1)


@pytest.mark.parametrize("method", ["random", "pool", *PUBLISHED])
def test_keeping_everything_answers_as_the_unpatched_model(bench, method):
    rows = bench.run(method, 1.0)
    base = bench.run()
    assert [r.accuracy for r in rows] == [r.accuracy for r in base]
    assert all(r.retained == 1 and r.relative == 1 for r in rows)


def test_published_methods_beat_random_on_attributes_at_a_ninth_of_the_tokens():
    """A subset of the committed table, which has 500 questions per family."""
    bench = Benchmark(*load_embedded("tiny-llava"), limit=90, families=("attribute",), batch=45)
    assert bench.run()[-1].accuracy > 0.95
    for method in PUBLISHED:
        row = bench.run(method, 0.11)[-1]
        # random gets as many tokens as are left in the end: the keep of vflowopt is a mean over layers
        chance = [bench.run("random", round(row.retained, 3), {"seed": seed})[-1].accuracy for seed in range(2)]
        assert row.accuracy > np.mean(chance), (method, row.accuracy, chance)


def test_rows_count_every_family_once_and_all_together(bench):
    rows = bench.run("random", 0.25, {"seed": 2})
    assert [r.family for r in rows] == [*IMAGE_FAMILIES, "all"]
    assert [r.n for r in rows] == [4] * 6 + [24]
    assert rows[-1].retained == 0.25 and rows[-1].options == {"seed": 2} and rows[-1].keep == 0.25
    assert rows[-1].accuracy == pytest.approx(np.mean([r.accuracy for r in rows[:-1]]))
    assert all(r.accuracy_low <= r.accuracy <= r.accuracy_high for r in rows)


@pytest.mark.parametrize("method", ["random", "fastv", "pyramiddrop"])
def test_costs_tell_late_cuts_from_early_ones(bench, method):
    depth = bench.model.config.text_config.num_hidden_layers
    row = bench.run(method, 0.25)[-1]
    with vtc.patched(bench.model, method, keep=0.25) as handle:
        answer_items(bench.model, bench.processor, bench.items[:1], 1, handle)
        cuts = [(at, len(kept)) for at, kept in handle.last.images[0].cuts]
        n, report = handle.last.images[0].before, handle.report().data
    by_hand = sum([left for at, left in [(0, n), *cuts] if at <= i][-1] for i in range(depth)) / depth / n
    assert row.layers == pytest.approx(by_hand) and row.layers >= row.retained - 1e-9
    assert report["visual_tokens"]["mean_over_layers"] == pytest.approx(by_hand * n)
    assert row.layers - 0.02 < row.flops < 1 and bench.run()[-1].flops == 1


def test_the_blanked_row_is_far_below_the_seeing_one(bench):
    seeing, blank = bench.run()[-1], bench.run("blank")[-1]
    assert blank.keep is None and blank.accuracy < seeing.accuracy - 0.2


def test_the_model_is_left_as_it_was(bench):
    before = {name: p.clone() for name, p in bench.model.named_parameters()}
    bench.run("vtc-cls", 0.25)
    assert all(torch.equal(p, before[name]) for name, p in bench.model.named_parameters())
    assert answer_items(bench.model, bench.processor, bench.items, 12) == bench.base


def test_no_questions_are_refused(bench):
    with pytest.raises(ValueError, match="limit=0"):
        evaluate(bench.model, bench.processor, limit=0)


def test_intervals_hold_the_mean_and_shrink_with_more_questions():
    values = [True, True, True, False] * 10
    low, high = interval(values)
    assert low < 0.75 < high and interval(values) == (low, high)
    wider = interval(values[:8])
    assert wider[1] - wider[0] > high - low
    assert ratio_interval(values, values) == (1.0, 1.0)
    assert ratio_interval([True], [False]) is None


def test_reports_hold_every_row(bench, tmp_path):
    rows = [*bench.run(), *bench.run("random", 0.25)]
    lines = list(csv.reader(io.StringIO(to_csv(rows))))
    assert len(lines) == 1 + len(rows) and lines[0][: len(FIELDS)] == list(FIELDS)
    table = to_markdown(rows).splitlines()
    assert table[2].startswith("| none |") and table[3].startswith("| random | 0.25 |")
    names = {path.name for path in write_all(rows, tmp_path)}
    assert {"quality.csv", "quality.md"} <= names and all((tmp_path / name).stat().st_size for name in names)


def test_video_questions_are_asked_of_models_that_take_videos():
    model, processor = load_embedded("tiny-qwen2_5-vl")
    assert Benchmark(model, processor, limit=1).families == (*IMAGE_FAMILIES, *VIDEO_FAMILIES)
    video = Benchmark(model, processor, limit=8, families=VIDEO_FAMILIES, batch=4)
    rows = video.run("random", 0.25)
    assert [r.family for r in rows] == [*VIDEO_FAMILIES, "all"]
    assert rows[-1].retained == 0.25
    assert [r.accuracy for r in video.run("random", 1.0)] == [r.accuracy for r in video.run()]
    assert video.run()[-1].accuracy > 0.6
