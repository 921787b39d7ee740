from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration, LlavaProcessor
from vtc.demos.embedded import ASSETS, EMBEDDED, PHOTO, load_embedded, sample
from vtc.demos.random_qwen import MAX_PIXELS, SPECIAL, build, build_tokenizer
from vtc.eval.quality import is_exact
from vtc.eval.scenes import FAMILIES

from vtc.chat import ask, build_inputs, check_question, prompt_text


@pytest.fixture(scope="module")
def llava():
    return load_embedded("tiny-llava")


@pytest.fixture(scope="module")
def qwen():
    return build()


def test_tiny_llava_loads_through_the_auto_classes(llava):
    model, processor = llava
    assert isinstance(model, LlavaForConditionalGeneration) and isinstance(processor, LlavaProcessor)
    assert type(processor.image_processor).__name__.startswith(CLIPImageProcessor.__name__)
    assert sum(p.numel() for p in model.parameters()) == 3_611_584


def test_tiny_llava_prompt(llava):
    _, processor = llava
    image = Image.new("RGB", (300, 200), (255, 0, 128))
    inputs = processor(images=[image], text=["<image>What color is the circle?"], return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    assert ids[:65] == [1] + [3] * 64
    assert processor.tokenizer.convert_ids_to_tokens(ids[65:]) == "what color is the circle ?".split()
    assert inputs["pixel_values"].shape == (1, 3, 112, 112)
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
    assert inputs["attention_mask"].sum(1).tolist() == [65 + len(question.split()), 5]
    assert inputs["attention_mask"][1, -5:].all() and inputs["pixel_values"].shape[0] == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_llava_answers_the_bundled_questions(llava, family):
    image, question, known = sample("tiny-llava", family)
    answer = ask(*llava, [image], question, 8, warm_up=False)
    assert is_exact(answer.text, known), answer
    assert 0 < answer.first_token_ms <= answer.total_ms and answer.tokens >= 2


def test_photograph_and_licence_notes_are_there():
    assert max(Image.open(PHOTO).size) <= 512
    notes = (ASSETS / "README.md").read_text()
    assert "photo.jpg" in notes and "CC0" in notes
    assert all(entry.path is None or (entry.path / "README.md").is_file() for entry in EMBEDDED.values())


def test_random_qwen_is_the_same_every_time_and_leaves_the_global_generator_alone(qwen):
    torch.manual_seed(5)
    again, _ = build()
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert all(torch.equal(a, b) for a, b in zip(qwen[0].parameters(), again.parameters(), strict=True))


def test_random_qwen_resolution_follows_the_photograph(qwen):
    model, processor = qwen
    photo = Image.open(PHOTO)
    inputs = build_inputs(processor, [([photo], "What?")], model.device)
    assert inputs["image_grid_thw"].tolist() == [[1, 24, 36]]
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 12 * 18
    large = build_inputs(processor, [([photo.resize((3000, 2000))], "What?")], model.device)
    assert int(large["image_grid_thw"].prod()) * 14 * 14 <= MAX_PIXELS


def test_random_qwen_answers_in_printable_characters(qwen):
    image, question, known = sample("tiny-qwen2_5-vl")
    answer = ask(*qwen, [image], question, 6, warm_up=False)
    assert known is None and answer.tokens == 6
    assert len(answer.text) == 6 and answer.text.isascii() and answer.text.isprintable()
    assert "mean nothing" in EMBEDDED["tiny-qwen2_5-vl"].note


def test_byte_tokenizer_round_trip():
    tokenizer = build_tokenizer()
    ids = tokenizer("Grüße, 猫!", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "Grüße, 猫!"
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == list(range(len(SPECIAL)))


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(question):
    with pytest.raises(ValueError, match="question is empty"):
        check_question(question)
