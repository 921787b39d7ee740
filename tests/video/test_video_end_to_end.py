"""A real file from the disk to the answer: read, sampled, rated, patched, generated."""

import numpy as np
import pytest
import torch

import vtc
from vtc.video import SelfScorer, VLMScorer, plan, read_video

from support import moving, random_qwen

QUESTION = "When does the blue square appear?"
FRAMES = 8


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return moving.write(tmp_path_factory.mktemp("films") / "film.mp4", 30, size=(112, 112))


@pytest.fixture(scope="module")
def qwen():
    return random_qwen.build()


def video_inputs(processor, frames, question=QUESTION):
    content = [{"type": "video"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    stack = np.stack([np.asarray(frame) for frame in frames])
    return dict(processor(text=[text], videos=[stack], do_sample_frames=False, return_tensors="pt"))


def generate(model, inputs):
    out = model.generate(**inputs, max_new_tokens=4, do_sample=False, return_dict_in_generate=True, output_logits=True)
    return torch.stack(out.logits)


def blueness(pictures, question):
    return [0.01 + float((np.asarray(p)[..., 2] > np.asarray(p).astype(int)[..., 0] + 60).mean()) for p in pictures]


def test_vidcom2_on_a_file(film, qwen):
    model, processor = qwen
    inputs = video_inputs(processor, read_video(film, count=FRAMES).frames)
    plain = generate(model, inputs)
    with vtc.patched(model, "vidcom2", keep=0.25) as handle:
        cut = generate(model, inputs)
        (log,) = handle.last.images
    assert log.unit.grid == (FRAMES // 2, 4, 4) and len(log.entered) == 16
    assert bool(cut.isfinite().all()) and not torch.equal(cut, plain)
    assert torch.equal(generate(model, inputs), plain)


def test_quota_on_a_file(film, qwen):
    """The frames that show the blue square get the tokens, as the plan said they would."""
    model, processor = qwen
    made = plan(film, QUESTION, scorer=blueness, decouple=["blue square"], count=FRAMES)
    inputs = video_inputs(processor, made.frames)
    foreseen = made.joined(2).assign(0.5, (4, 4)).tokens
    assert foreseen[-1] > foreseen[0]
    with vtc.patched(model, "quota", keep=0.5, frame_scores=made.scores) as handle:
        logits = generate(model, inputs)
        (log,) = handle.last.images
        assert len(log.entered) == sum(foreseen)
        assert handle.last.sequence[0] - sum(foreseen) < inputs["input_ids"].shape[1]
    assert bool(logits.isfinite().all())
    with vtc.patched(model, "quota", keep=0.5, frame_scores=made.joined(2).scores):
        assert torch.equal(generate(model, inputs), logits)


@pytest.mark.parametrize("kind", ["self", "other", "callable"])
def test_a_scorer_gives_what_its_scores_give(film, qwen, kind):
    """Rating inside of generate equals passing the same scores, and leaves nothing behind."""
    model, processor = qwen
    inputs = video_inputs(processor, read_video(film, count=FRAMES).frames)
    seen = []
    inner = {
        "self": SelfScorer(),
        "other": VLMScorer(*random_qwen.build(seed=3), decouple=None),
        "callable": lambda handle, inputs: [torch.tensor([0.1, 0.2, 0.6, 0.4])],
    }[kind]

    def scorer(handle, inputs):
        seen.append(inner(handle, inputs))
        return seen[-1]

    plain = generate(model, inputs)
    deltas = model.model.rope_deltas.clone()
    with vtc.patched(model, "quota", keep=0.5, scorer=scorer, processor=processor):
        rated = generate(model, inputs)
        again = generate(model, inputs)
        with torch.no_grad():
            forward = model(**inputs).logits[:, -1]
    assert len(seen) == 3 and [len(s) for s in seen[0]] == [FRAMES // 2]
    assert torch.equal(seen[0][0], seen[1][0]) and torch.equal(rated, again)
    assert len(set(seen[0][0].tolist())) == FRAMES // 2
    with vtc.patched(model, "quota", keep=0.5, frame_scores=seen[0]):
        assert torch.equal(generate(model, inputs), rated)
    torch.testing.assert_close(forward, rated[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(generate(model, inputs), plain) and torch.equal(model.model.rope_deltas, deltas)


def test_self_by_its_name_is_the_self_scorer(film, qwen):
    model, processor = qwen
    inputs = video_inputs(processor, read_video(film, count=FRAMES).frames)
    with vtc.patched(model, "quota", keep=0.5, scorer=SelfScorer(), processor=processor):
        expected = generate(model, inputs)
    with vtc.patched(model, "quota", keep=0.5, scorer="self", processor=processor):
        assert torch.equal(generate(model, inputs), expected)
    with pytest.raises(TypeError, match="scorer='selves' is not allowed"):
        vtc.patch(model, "quota", keep=0.5, scorer="selves")
