"""Plans: what is known about a video before the model sees it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import vtc
from vtc.video import Plan, VLMScorer, plan, read_video

from support import moving, random_qwen

QUESTION = "When does the blue square appear?"


def frames(count=4):
    return [Image.fromarray(moving.picture(i, count)) for i in range(count)]


def blueness(pictures, question):
    return [float((np.asarray(p)[..., 2] > np.asarray(p).astype(int)[..., 0] + 60).mean()) for p in pictures]


def test_a_plan_of_a_file(tmp_path):
    path = moving.write(tmp_path / "film.mp4", 12)
    made = plan(path, QUESTION, scorer=blueness, decouple=lambda query: ["blue square"], count=6)
    assert made.entities == ["blue square"] and "blue square" in made.question and made.query == QUESTION
    assert made.times == [0.0, 0.2, 0.4, 0.6, 0.8, 1.1] and len(made.frames) == 6
    assert made.scores.dtype == torch.float64
    assert made.scores[:3].max() < 0.01 < made.scores[3:].min()
    again = plan(read_video(path, count=6), QUESTION, scorer=blueness)
    assert torch.equal(again.scores, made.scores) and again.entities == [] and again.question.startswith(QUESTION)
    assert json.loads(json.dumps(made.to_dict()))["times"] == made.times


def test_frames_as_pictures_and_arrays():
    one = plan(frames(), QUESTION, scorer=blueness, fps=2.0)
    arrays = plan([np.asarray(f) for f in frames()], QUESTION, scorer=blueness, decouple=["sky"])
    assert torch.equal(one.scores, arrays.scores) and arrays.times is None and arrays.entities == ["sky"]
    assert one.times == [0.0, 0.5, 1.0, 1.5]
    assert len(plan(frames(1), QUESTION, scorer=lambda f, q: [0.3]).scores) == 1


def test_models_as_scorer_and_for_the_entities(monkeypatch):
    model, processor = random_qwen.build()
    made = plan(frames(), QUESTION, scorer=(model, processor), decouple=(model, processor))
    assert made.entities == []  # random weights follow no format
    assert torch.equal(made.scores.float(), VLMScorer(model, processor).score(frames(), QUESTION))
    prompts = []

    def answer(model, inputs, limit):
        prompts.append(processor.tokenizer.decode(inputs["input_ids"][0]))
        return torch.tensor([processor.tokenizer('Step 1: yes\nStep 3: ["Square"]').input_ids])

    monkeypatch.setattr("vtc.chat.new_tokens", answer)
    assert plan(frames(), QUESTION, scorer=blueness, decouple=(model, processor)).entities == ["square"]
    assert QUESTION in prompts[0] and "Step 3:" in prompts[0] and "vision" not in prompts[0]


def test_pairs_of_frames():
    made = Plan("q", [], "q", torch.tensor([0.1, 0.4, 0.2, 0.3, 0.9]).double(), [0.0, 1.0, 2.0, 3.0, 4.0])
    pairs = made.joined(2)
    assert pairs.scores.tolist() == pytest.approx([0.4, 0.3, 0.9]) and pairs.times == [0.0, 2.0, 4.0]


def test_tokens_per_frame():
    made = Plan("q", [], "q", torch.tensor([0.9, 0.1, 0.05, 0.3]).double())
    official = made.assign(75, (10, 10), cap="none")
    assert official.grids == [(8, 8), (0, 0), (0, 0), (3, 2)] and official.tokens == [64, 0, 0, 6]
    assert made.tokens is None
    even = Plan("q", [], "q", torch.ones(4).double()).assign(0.25, (10, 10))
    assert even.tokens == [25] * 4 and even.grids == [(5, 5)] * 4
    assert max(made.assign(0.9, (10, 10)).tokens) == 100
    assert plan(frames(), QUESTION, scorer=lambda f, q: [1.0] * 4, budget=100, grid=(10, 10)).tokens == [25] * 4
    with pytest.raises(ValueError, match="grid="):
        made.assign(10, (0, 4))
    with pytest.raises(ValueError, match="budget=0"):
        made.assign(0, (4, 4))
    with pytest.raises(ValueError, match="cap='auto'"):
        made.assign(4, (4, 4), cap="auto")


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: plan(frames(), " ", scorer=blueness), ValueError, "query is empty"),
        (lambda: plan([], QUESTION, scorer=blueness), ValueError, "no frame"),
        (lambda: plan(frames(), QUESTION, scorer=blueness, budget=9), ValueError, "grid="),
        (lambda: plan(frames(), QUESTION, scorer=lambda f, q: [1.0]), ValueError, "1 scores for 4 frames"),
        (lambda: plan(frames(), QUESTION, scorer=lambda f, q: [-1.0] * 4), ValueError, "frame 0 has score -1"),
        (lambda: plan(frames(), QUESTION, scorer="self"), TypeError, "scorer='self'"),
        (lambda: plan(frames(), QUESTION, scorer=blueness, count=3), TypeError, "count"),
    ],
)
def test_what_a_plan_refuses(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_names_of_the_package():
    assert set(vtc.video.__all__) <= set(dir(vtc.video)) and vtc.video.plan is plan
    assert all(getattr(vtc.video, name) is not None for name in vtc.video.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        vtc.video.nothing  # noqa: B018
