from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch

from vtc.chat import build_inputs, prompt_text
from vtc.eval.scenes import IMAGE_FAMILIES, TRAIN_SEEDS, make_scene
from vtc.eval.scenes.video import make_video
from vtc.eval.training.__main__ import parser
from vtc.eval.training.export import export
from vtc.eval.training.final import describe_device, finish
from vtc.eval.training.loop import Trainer
from vtc.eval.training.places import place_questions, token_places
from vtc.eval.training.pool import HELD_OUT, draw_questions, encode_question, fill
from vtc.eval.training.qwen_pool import BEFORE, SLOT, draw_video_questions, image_sample, video_sample
from vtc.eval.training.reader import Pool, Shard, canvas_grid, make_batch
from vtc.eval.training.recipe import Recipe
from vtc.eval.training.specs import SPECS
from vtc.eval.training.targets import HEADS, dense_targets
from vtc.eval.training.vocabulary import LLAVA, QWEN
from vtc.eval.training.warm import warm_llava

LLAVA_SPEC, QWEN_SPEC = SPECS["tiny-llava"], SPECS["tiny-qwen2_5-vl"]


def perturbed(model):
    """Biases and norms away from their neutral values, so that a forgotten one shows."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.03)
    return model.eval()


def encoded(processor, rows):
    """What the processor makes of (scene, question) rows, without padding."""
    return [build_inputs(processor, [([scene.image], q.text)]) for scene, q in rows]


@pytest.fixture(scope="module")
def llava():
    return perturbed(LLAVA_SPEC.model()), LLAVA_SPEC.processor()


@pytest.fixture(scope="module")
def qwen():
    return perturbed(QWEN_SPEC.model()), QWEN_SPEC.processor()


@torch.no_grad()
def test_llava_training_pass_equals_the_model(llava, tmp_path):
    model, processor = llava
    fill(tmp_path, LLAVA_SPEC.sample, 0, 1, 2)
    shard = Shard(tmp_path / "shard-00000")
    batch = make_batch(shard, np.arange(2), np.tile(np.arange(3), (2, 1)))
    logits, dense, present, places = LLAVA_SPEC.trainee(model, 3)(LLAVA_SPEC.prepare(batch.pixels), batch.slots)
    assert dense.shape == (2, 144, sum(n for _, n in HEADS)) and len(present) == 2
    logits = logits.unflatten(1, (3, -1))
    for row in range(2):
        scene = make_scene(TRAIN_SEEDS + row)
        for slot, q in enumerate(draw_questions(scene, random.Random(f"train/{scene.seed}"), 3)):
            (inputs,) = encoded(processor, [(scene, q)])
            inputs["pixel_values"] = LLAVA_SPEC.prepare(batch.pixels[row : row + 1])
            expected = model(**inputs).logits[0, -1]
            first = shard.arrays["questions"][row, slot, -1]
            assert torch.allclose(logits[row, slot, first - 1], expected, atol=2e-4)


def test_llava_pool_pixels_are_those_of_the_processor(llava, tmp_path):
    scene = make_scene(TRAIN_SEEDS)
    stored = LLAVA_SPEC.prepare(torch.from_numpy(LLAVA_SPEC.sample(TRAIN_SEEDS)["pixels"].copy())[None])
    inputs = build_inputs(llava[1], [([scene.image], "read the word ?")])
    assert (inputs["pixel_values"] - stored).abs().max() < 0.1
    assert (inputs["pixel_values"] - stored).abs().mean() < 0.005


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 8, 11])
@torch.no_grad()
def test_qwen_training_pass_equals_the_model_on_images_of_every_size(qwen, seed):
    model, processor = qwen
    scene = make_scene(seed)
    asked = draw_questions(scene, random.Random(0), 2)
    sample = image_sample(scene, asked)
    for slot, logits in enumerate(_qwen_logits(model, sample, 2)):
        (inputs,) = encoded(processor, [(scene, asked[slot])])
        expected = model(**inputs).logits[0, -1]
        assert torch.allclose(logits[sample["questions"][slot, -1] - 1], expected, atol=2e-4)


@torch.no_grad()
def test_qwen_training_pass_equals_the_model_on_a_video(qwen):
    from vtc.eval.quality.answers import video_inputs
    from vtc.eval.quality.questions import Item

    model, processor = qwen
    video = make_video(0)
    asked = draw_video_questions(video, random.Random(0), 2)
    sample = video_sample(video, asked)
    for slot, logits in enumerate(_qwen_logits(model, sample, 2)):
        item = Item(asked[slot].family, asked[slot].text, "", video.frames, 0, "")
        inputs = video_inputs(processor, [item], model.device)
        assert inputs["video_grid_thw"].tolist() == [[4, 10, 10]]
        expected = model(**inputs).logits[0, -1]
        assert torch.allclose(logits[sample["questions"][slot, -1] - 1], expected, atol=2e-4)


def _qwen_logits(model, sample, slots):
    trainee = QWEN_SPEC.trainee(model, slots)
    patches = QWEN_SPEC.prepare(torch.from_numpy(sample["pixels"])[None])
    ids = torch.from_numpy(sample["questions"][:slots, :-1].astype(np.int64)).flatten()[None]
    kind = torch.from_numpy(sample["kind"].astype(np.int64))[None]
    return trainee(patches, ids, kind)[0][0].unflatten(0, (slots, -1))


@pytest.mark.parametrize("name", SPECS)
def test_slots_hold_what_the_tokenizer_makes_of_prompt_and_answer(name):
    spec = SPECS[name]
    processor = spec.processor()
    scene = make_scene(4)
    q = draw_questions(scene, random.Random(0), 1)[0]
    before, end = ([], "</s>") if name == "tiny-llava" else (BEFORE, "<|im_end|>")
    stored = encode_question(q, spec.vocabulary, before, end, SLOT)
    text = prompt_text(processor, q.text, 1)
    ids = processor.tokenizer(text + q.answer + end, add_special_tokens=False)["input_ids"]
    image = spec.vocabulary.tokens["<image>" if name == "tiny-llava" else "<|vision_end|>"]
    question = ids[ids.index(image) + 1 :]
    assert stored[: len(question)].tolist() == question and not stored[len(question) : -1].any()
    first = processor.tokenizer(q.answer, add_special_tokens=False)["input_ids"][0]
    assert stored[stored[-1]] == first


def test_tokenizers_know_every_word_of_the_questions():
    for spec in SPECS.values():
        tokenizer = spec.processor().tokenizer
        assert tokenizer.get_vocab() == spec.vocabulary.tokens
        assert tokenizer("Zebra!", add_special_tokens=False)["input_ids"] == [spec.vocabulary.tokens["<unk>"]] * 2
    assert LLAVA.tokens["<image>"] == 3 and QWEN.tokens["<|im_end|>"] == 2


def test_a_question_that_is_too_long_is_refused():
    scene = make_scene(4)
    with pytest.raises(ValueError, match="a slot has 3"):
        encode_question(draw_questions(scene, random.Random(0), 1)[0], LLAVA, [], "</s>", 3)


def test_dense_targets_mark_the_tokens_under_objects():
    scene = next(s for s in map(make_scene, range(50)) if s.texts and not s.texts[0].is_number)
    targets = dense_targets(scene, 12, 12)
    for item in scene.objects:
        row, column = item.y * 12 // scene.image.height, item.x * 12 // scene.image.width
        assert targets[0, row, column] > 0
    text = scene.texts[0]
    letters = targets[1, text.y * 12 // scene.image.height]
    assert {chr(96 + v) for v in letters if 0 < v <= 26} <= set(text.text) and letters.any()


def test_seeds_of_training_progress_and_tests_are_disjoint():
    from vtc.eval.quality.questions import test_set

    used = {item.seed for item in test_set(SPECS["tiny-qwen2_5-vl"].families, 20, seed=899)}
    assert max(used) < HELD_OUT < TRAIN_SEEDS


def test_training_resumes_and_exports(tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    def trainer(looking=0.0):
        torch.manual_seed(0)
        trainee = LLAVA_SPEC.trainee(LLAVA_SPEC.model(), 2)
        pool = Pool([tmp_path / "plain"], 2, 2)
        recipe = Recipe(minutes=10, looking=looking, warm_up=1, rate=5e-4)
        held = [make_batch(Shard(tmp_path / "plain" / "shard-00000"), np.arange(2), np.zeros((2, 2), int))]
        return Trainer(trainee, pool, LLAVA_SPEC.prepare, held, LLAVA_SPEC.families, tmp_path, recipe, compiled=False)

    fill(tmp_path / "plain", LLAVA_SPEC.sample, 0, 1, 4)
    first = trainer()
    assert not first.resume()
    losses = [first.train_step()["answer"] for _ in range(12)]
    assert np.mean(losses[-4:]) < losses[0]
    first.save()
    first.log(accuracy=first.evaluate())
    second = trainer()
    assert second.resume() and (second.step, second.samples) == (12, 24)
    assert all(torch.equal(a, b) for a, b in zip(first.weights.masters, second.weights.masters, strict=True))
    assert first.train_step() == second.train_step()
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["step"] == 12 and 0 <= min(line["accuracy"].values())

    looker = trainer(looking=1.0)
    assert "answer" not in looker.train_step() and looker.asked_from == 0
    facts = export("tiny-llava", tmp_path / "checkpoint.pt", tmp_path / "model")
    assert facts["step"] == 12
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "model", dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(tmp_path / "model")
    inputs = build_inputs(processor, [([make_scene(3).image], "read the word ?")])
    assert int((inputs["input_ids"] == LLAVA.tokens["<image>"]).sum()) == 144
    assert model.generate(**inputs, max_new_tokens=2).shape[1] > inputs["input_ids"].shape[1]

    facts |= {"device": describe_device(torch.device("cpu"), 2), "start": ""}
    accuracy = finish("tiny-llava", tmp_path / "model", tmp_path / "log.jsonl", facts, each=2)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 12 and last["accuracy"] == accuracy and "threads" in last["device"]
    assert set(last["blank"]) == set(accuracy) == {*IMAGE_FAMILIES, "all"} and last["test_questions_per_family"] == 2
    card = (tmp_path / "model" / "README.md").read_text()
    assert "# tiny-llava" in card and "12 steps" in card and "2 threads" in card and "| blank |" in card


def test_positions_vary_as_after_a_cut_that_renumbers():
    trainee = LLAVA_SPEC.trainee(LLAVA_SPEC.model(), 2)
    usual = trainee.cos.clone()
    rng, moved = np.random.default_rng(0), 0
    for _ in range(40):
        trainee.vary(rng)
        moved += not torch.equal(trainee.cos, usual)
        assert torch.equal(trainee.cos[0], usual[0]) and torch.equal(trainee.cos[-14:], trainee.cos[-28:-14])
    assert 5 < moved < 25
    trainee.vary(None)
    assert torch.equal(trainee.cos, usual)


def test_a_warm_start_copies_what_fits():
    old, new = perturbed(LLAVA_SPEC.model()), LLAVA_SPEC.model()
    warm_llava(new, old, LLAVA.tokens, {"red": 7, "<s>": 1}, 12)
    assert torch.equal(new.lm_head.weight[LLAVA.tokens["red"]], old.lm_head.weight[7])
    layers = [m.model.language_model.layers[5].mlp.down_proj.weight for m in (new, old)]
    assert torch.equal(*layers)
    tower = new.model.vision_tower.encoder.layers
    assert tower[3].mlp.fc2.weight.abs().sum() > 0 and tower[4].mlp.fc2.weight.abs().sum() == 0


def test_options_of_the_script():
    args = parser().parse_args(["--model", "tiny-llava", "--minutes", "5"])
    assert args.minutes == 5 and args.start is None
    with pytest.raises(SystemExit):
        parser().parse_args(["--model", "tiny-lava"])


def test_places_are_tenths_of_the_picture_and_follow_the_objects():
    grid = token_places(8, 10)
    assert grid.shape == (2, 8, 10) and grid[0, 3].tolist() == list(range(10)) and grid[1, :, 0].tolist()[-1] == 9
    objects = np.zeros((10, 10), np.uint8)
    objects[2:4, 7:9] = 1  # red circle
    objects[0, 0] = objects[9, 9] = 2  # two green circles
    (question,) = place_questions(objects)
    assert question.text == "value of the red circle ?" and question.answer == "83"
    canvas = canvas_grid((8, 10)).reshape(2, 10, 10)
    assert np.array_equal(canvas[:, :8], grid) and (canvas[:, 8:] == -100).all()
    assert np.array_equal(canvas_grid((0, 0))[:, :25], token_places(5, 5).reshape(2, -1))


def test_what_is_not_known_is_drawn_more_often(tmp_path):
    fill(tmp_path, LLAVA_SPEC.sample, 0, 1, 30)
    pool = Pool([tmp_path], 24, 8)
    spatial, rng = IMAGE_FAMILIES.index("spatial"), np.random.default_rng(0)
    alike = np.mean([(pool.draw(rng).families == spatial).mean() for _ in range(20)])
    pool.weights = np.where(np.arange(len(IMAGE_FAMILIES) + 1) == spatial, 5.0, 1.0)
    assert np.mean([(pool.draw(rng).families == spatial).mean() for _ in range(20)]) > 1.5 * alike
