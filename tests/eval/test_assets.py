from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPImageProcessor,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from vtc.chat import ask, build_inputs, check_question, prompt_text, timed_answer
from vtc.demos.app.media import video_inputs
from vtc.demos.embedded import ASSETS, EMBEDDED, PHOTO, load_embedded, sample, sample_video
from vtc.eval.quality import is_exact
from vtc.eval.scenes import IMAGE_FAMILIES
from vtc.eval.scenes.video_questions import VIDEO_FAMILIES


@pytest.fixture(scope="module")
def llava():
    return load_embedded("tiny-llava")


@pytest.fixture(scope="module")
def qwen():
    return load_embedded("tiny-qwen2_5-vl")


@pytest.mark.parametrize("name", list(EMBEDDED))
def test_weights_are_small_and_described(name):
    entry = EMBEDDED[name]
    assert sum(path.stat().st_size for path in entry.path.glob("*.safetensors")) < 12e6
    card = (entry.path / "README.md").read_text()
    assert f"# {name}" in card and "does not know" in card
    lines = (ASSETS.parents[1] / "eval/training_logs" / f"{name}.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert {"step", "samples", "seconds", "device", "accuracy"} <= set(last)


def test_tiny_llava_loads_through_the_auto_classes(llava):
    model, processor = llava
    assert isinstance(model, LlavaForConditionalGeneration) and isinstance(processor, LlavaProcessor)
    assert type(processor.image_processor).__name__.startswith(CLIPImageProcessor.__name__)
    assert 3e6 < sum(p.numel() for p in model.parameters()) < 6e6


def test_tiny_llava_prompt(llava):
    _, processor = llava
    image = Image.new("RGB", (300, 200), (255, 0, 128))
    inputs = processor(images=[image], text=["<image>What color is the circle?"], return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    assert ids[:145] == [1] + [3] * 144
    assert processor.tokenizer.convert_ids_to_tokens(ids[145:]) == "what color is the circle ?".split()
    assert inputs["pixel_values"].shape == (1, 3, 168, 168)
    assert torch.allclose(inputs["pixel_values"][0, :, 50, 50], torch.tensor([1.0, -1.0, 128 / 127.5 - 1]), atol=1e-3)


@pytest.mark.parametrize(("text", "words"), [("42", "4 2"), ("RED ring!", "red ring <unk>"), ("zebra", "<unk>")])
def test_tiny_llava_words(llava, text, words):
    ids = llava[1].tokenizer(text, add_special_tokens=False)["input_ids"]
    assert llava[1].tokenizer.convert_ids_to_tokens(ids) == words.split()


def test_tiny_llava_chat_template(llava):
    assert prompt_text(llava[1], "read the number ?", images=2) == "<image><image>read the number ?"


def test_batches_are_padded_on_the_left(llava):
    model, processor = llava
    image, question, _ = sample("tiny-llava")
    inputs = build_inputs(processor, [([image], question), ([], "read the number ?")], model.device)
    assert inputs["attention_mask"].sum(1).tolist() == [145 + len(question.split()), 5]
    assert inputs["attention_mask"][1, -5:].all() and inputs["pixel_values"].shape[0] == 1


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
@pytest.mark.parametrize("name", list(EMBEDDED))
def test_embedded_models_answer_the_bundled_questions(name, family, request):
    pair = request.getfixturevalue("llava" if name == "tiny-llava" else "qwen")
    image, question, known = sample(name, family)
    answer = ask(*pair, [image], question, 8, warm_up=False)
    assert is_exact(answer.text, known), answer
    assert 0 < answer.first_token_ms <= answer.total_ms and answer.tokens >= 2


def test_tiny_qwen_answers_about_the_bundled_video(qwen):
    frames, question, known = sample_video()
    answer = timed_answer(*qwen, video_inputs(qwen[1], frames, question), 8, warm_up=False)
    assert is_exact(answer.text, known), answer
    with pytest.raises(ValueError, match="no question of the family 'video-motion'"):
        sample_video("video-motion")
    assert set(VIDEO_FAMILIES) >= {"video-order", "video-motion"}


def test_photograph_and_licence_notes_are_there():
    assert max(Image.open(PHOTO).size) <= 512
    notes = (ASSETS / "README.md").read_text()
    assert "photo.jpg" in notes and "CC0" in notes
    assert all((entry.path / "README.md").is_file() for entry in EMBEDDED.values())


def test_tiny_qwen_resolution_follows_the_picture(qwen):
    model, processor = qwen
    assert isinstance(model, Qwen2_5_VLForConditionalGeneration) and isinstance(processor, Qwen2_5_VLProcessor)
    for size, grid in (((200, 160), [1, 16, 20]), ((160, 200), [1, 20, 16])):
        inputs = build_inputs(processor, [([Image.new("RGB", size)], "what ?")], model.device)
        assert inputs["image_grid_thw"].tolist() == [grid]
        assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 80
    large = build_inputs(processor, [([Image.new("RGB", (3000, 2000))], "what ?")], model.device)
    assert int(large["image_grid_thw"].prod()) <= 4 * 400


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(question):
    with pytest.raises(ValueError, match="question is empty"):
        check_question(question)
