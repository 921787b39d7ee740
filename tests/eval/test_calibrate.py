"""The search of VFlowOpt's parameters: improves what it maximises, stops and goes on, and writes what vtc loads."""

from __future__ import annotations

import json
import warnings

import pytest
import torch

import vtc
from vtc.eval.calibration.flow import Flow, final_state
from vtc.eval.calibration.samples import prepare, read_samples
from vtc.eval.calibration.search import TOLERANCE, calibrate, spend
from vtc.methods.vflowopt import VFlowOpt
from vtc.methods.vflowopt.ratios import mean_share

from support import tiny

CASE = tiny.CASES["llava-clip"]
SEARCH = dict(keep=0.3, iterations=9, initial=4, seed=3, bounds={"t": (0.0, 4.0), "cell": (16.0, 16.0)}, progress=False)


def samples(seeds):
    return [CASE.inputs([[3, "image", 5]], [seed]) for seed in seeds]


@pytest.fixture(scope="module")
def model():
    return CASE.build()


@pytest.fixture(scope="module")
def found(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "trials.json"
    return calibrate(model, samples(range(8)), study=path, **SEARCH), path


def test_search_improves_on_samples_it_has_not_seen(model, found):
    result, _ = found
    assert result.value > result.default
    held_out = Flow(model, samples(range(100, 124)))
    assert held_out.mean(result.method) > held_out.mean(VFlowOpt(keep=SEARCH["keep"])) + 0.005


def test_best_point_spends_the_budget(found):
    method = found[0].method
    assert abs(mean_share(method.ratios(36, 4), 4) - SEARCH["keep"]) <= TOLERANCE
    assert any(not trial["feasible"] for trial in found[0].trials)
    assert all(trial["value"] < 0 for trial in found[0].trials if not trial["feasible"])


@pytest.mark.parametrize("after", [1, 3, 7])
def test_interrupted_and_resumed_equals_uninterrupted(model, found, tmp_path, after):
    path = tmp_path / "trials.json"
    part = calibrate(model, samples(range(8)), study=path, stop=lambda done: done >= after, **SEARCH)
    assert len(part.trials) == after
    whole = calibrate(model, samples(range(8)), study=path, **SEARCH)
    assert whole.trials == found[0].trials
    assert whole.method == found[0].method
    assert json.loads(path.read_text()) == json.loads(found[1].read_text())


def test_finished_search_runs_no_forward(model, found):
    def refuse(*args):
        raise RuntimeError("a forward")

    hook = model.model.register_forward_pre_hook(refuse)
    try:
        assert calibrate(model, samples(range(8)), study=found[1], **SEARCH).method == found[0].method
    finally:
        hook.remove()


def test_trials_of_another_search_are_refused(model, found):
    with pytest.raises(ValueError, match="keep, samples differ|bounds, keep, samples differ"):
        calibrate(model, samples(range(7)), study=found[1], **{**SEARCH, "keep": 0.4})


def test_result_loads_and_patches(model, found, tmp_path):
    file = found[0].config.save(tmp_path / "found.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = vtc.load(file)
    inputs = samples([50])[0]
    with torch.no_grad(), vtc.patched(model, config) as handle:
        assert handle.methods[0] == found[0].method
        model(**inputs)
        ratios = handle.methods[0].ratios(36, 4)
        kept = [len(k) for _, k in handle.last.images[0].cuts]
    first = 36 - round(36 * (1 - ratios.r1))
    second = first - round(first * (1 - ratios.r2))
    assert kept == [first, second, second - round(second * (1 - ratios.r3))]


@pytest.mark.parametrize(("r1", "r2", "feasible"), [(0.25, 1.0, True), (0.25, 0.53, False), (0.375, 1.0, True)])
def test_third_ratio_is_solved_from_the_budget(r1, r2, feasible):
    ratios, penalty = spend(r1, r2, 0.25, 28)
    assert (penalty == 0.0) == feasible
    assert 0 < ratios.r3 <= 1
    if feasible:
        assert abs(mean_share(ratios, 28) - 0.25) < 1e-9


def test_reference_is_the_last_real_token(model):
    right = CASE.inputs([[3, "image", 5], [9, "image", 9]], [0, 1], "right")
    alone = CASE.inputs([[3, "image", 5]], [0])
    padded = {k: v[:1] for k, v in right.items()}
    assert (final_state(model, padded) - final_state(model, alone)).abs().max() < 3e-5


@pytest.mark.parametrize("keep", [1.0, 25, 0.0])
def test_budget_must_be_a_share(model, keep):
    with pytest.raises(ValueError, match="share between"):
        calibrate(model, samples([0]), keep)


def test_patched_models_and_empty_data_are_refused(model, tmp_path):
    with pytest.raises(ValueError, match="No samples"):
        calibrate(model, [], 0.3)
    with vtc.patched(model, "fastv"), pytest.raises(ValueError, match="unpruned"):
        Flow(model, samples([0]))
    (tmp_path / "data.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no samples"):
        read_samples(tmp_path)


def test_samples_are_read_beside_their_images(tmp_path):
    image = pytest.importorskip("PIL.Image").new("RGB", (8, 8))
    image.save(tmp_path / "a.png")
    (tmp_path / "data.jsonl").write_text('{"image": "a.png", "question": "What?"}\n' * 3)
    assert read_samples(tmp_path, 2) == [(tmp_path / "a.png", "What?")] * 2
    (tmp_path / "data.jsonl").write_text('{"image": "b.png", "question": "What?"}\n')
    with pytest.raises(FileNotFoundError, match="line 1: no image"):
        read_samples(tmp_path)
    (tmp_path / "data.jsonl").write_text('{"picture": "a.png"}\n')
    with pytest.raises(ValueError, match="line 1"):
        read_samples(tmp_path)


def test_prompts_come_from_the_chat_template(tmp_path, monkeypatch):
    chat = pytest.importorskip("vtc.chat")
    image = pytest.importorskip("PIL.Image").new("L", (8, 8))
    image.save(tmp_path / "a.png")
    seen = []
    monkeypatch.setattr(chat, "build_inputs", lambda processor, rows, device: seen.append(rows) or {"row": rows})
    prepare(object(), [(tmp_path / "a.png", "What?")])
    assert seen[0][0][0][0].mode == "RGB" and seen[0][0][1] == "What?"
