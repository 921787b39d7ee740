"""Scores of frames: by another model, by a text-image model, by the patched model itself, by a function."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image

import vtc
from vtc.video import ContrastiveScorer, PictureScorer, SelfScorer, VLMScorer, as_scorer, plan
from vtc.video.clips import find_clips
from vtc.video.letters import letter_id, letter_probability
from vtc.video.scorers import undisturbed

from support import oracle, random_qwen, tiny, tiny_families, tiny_processor

QUESTION = "Where is the cat?"
CASES = {
    "llava_onevision-video": [[("video", 3)], [("video", 3)], [4]],
    "llava_next_video-video": [[("video", 3)], [("video", 3)], [4]],
    "qwen2_vl": [[("video", (3, 4, 8))], [("image", (1, 4, 8)), ("video", (2, 8, 8))], [4]],
    "qwen2_5_vl-video": [[("video", (3, 4, 8))], [("image", (1, 4, 8)), ("video", (2, 8, 8))], [4]],
    "qwen3_vl": [[("video", (3, 4, 8))], [("image", (1, 4, 8)), ("video", (2, 8, 8))], [4]],
    "llava-clip": [["image", "image"], ["image"], [4]],
}


def pictures(count, size=(32, 24), seed=0):
    generator = np.random.default_rng(seed)
    return [Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)) for _ in range(count)]


def prompts(name, samples=None):
    samples = CASES[name] if samples is None else samples
    made = tiny_families.ALL[name].inputs(samples, list(range(len(samples))))
    return tiny_processor.ask(made, [f"{QUESTION} {i}" for i in range(len(samples))])


def patch(model, method="random", **options):
    return vtc.patch(model, method, keep=0.5, processor=tiny_processor.TinyProcessor(), **options)


@torch.no_grad()
def one_by_one(model, name, inputs, frame, row, question):
    """Probability of "A" for one frame, by a prompt of its own written out by hand."""
    token, video = tiny_processor.tokenizer(), "pixel_values_videos" in inputs
    mark = tiny.VID if video else tiny.IMG
    head, tail = "<|im_start|>user\n<|vision_start|>", f"<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n"
    grid, before = inputs.get("video_grid_thw"), 0
    extra = {}
    if grid is not None:
        t, h, w = grid[row].tolist()
        before = int(grid[:row].prod(1).sum()) + frame * h * w
        pixels = {"pixel_values_videos": inputs["pixel_values_videos"][before : before + h * w]}
        extra, n = {"video_grid_thw": torch.tensor([[1, h, w]])}, h * w // 4
    elif video:
        pixels = {"pixel_values_videos": inputs["pixel_values_videos"][row : row + 1, frame : frame + 1]}
        n = 10 if "onevision" in name else 9
    else:
        pixels, n = {"pixel_values": inputs["pixel_values"][2 * row + frame][None]}, 36
    ids = torch.tensor([token(head).input_ids + [mark] * n + token(tail).input_ids])
    if "mm_token_type_ids" in inputs:
        extra["mm_token_type_ids"] = (ids == mark).long() * 2
    out = model(input_ids=ids, attention_mask=torch.ones_like(ids), **pixels, **extra)
    return torch.softmax(out.logits[0, -1], -1)[token("A").input_ids[0]]


@pytest.mark.parametrize("name", CASES)
def test_the_model_rates_its_own_frames(tiny_model, name):
    model, inputs = tiny_model(name), prompts(name)
    counts = {"qwen": (3, 2), "llava-": (2, 1), "llava_": (3, 3)}
    counts = next(c for key, c in counts.items() if name.startswith(key))
    asked = []
    for batch in (64, 2):
        handle = patch(model)
        found = SelfScorer(batch=batch, decouple=lambda q: asked.append(q) or [])(handle, inputs)
        handle.remove()
        assert [len(s) for s in found] == list(counts)
        for row, scores in enumerate(found):
            question = f"{QUESTION} {row}\nCan the question be answered from this image? A. yes B. no\n"
            question += "Reply with the letter only."
            for frame, score in enumerate(scores):
                expected = one_by_one(model, name, inputs, frame, row, question)
                torch.testing.assert_close(score, expected, atol=1e-6, rtol=1e-4)
    assert asked == [f"{QUESTION} 0", f"{QUESTION} 1"] * 2
    assert len({round(float(s), 9) for scores in found for s in scores}) > 1


def state(model):
    """Attributes of every module (ids of objects that may not change), hooks and weights included."""
    return [{key: (id(value), str(value)) for key, value in m.__dict__.items()} for m in model.modules()]


@pytest.mark.parametrize("name", ["qwen2_5_vl-video", "llava_onevision-video"])
@pytest.mark.parametrize("training", [False, True])
def test_rating_leaves_nothing_on_the_model(tiny_model, name, training):
    model, inputs = tiny_model(name), prompts(name)
    handle = patch(model)
    expected = oracle.generate(model, inputs)
    before, last, rng = state(model.train(training)), handle.last, torch.get_rng_state()
    SelfScorer()(handle, inputs)  # decouples by generating with the model, too
    assert state(model) == before and handle.last is last and torch.equal(torch.get_rng_state(), rng)
    model.eval()
    found = oracle.generate(model, inputs)
    assert torch.equal(torch.stack(found.logits), torch.stack(expected.logits))
    handle.remove()


@pytest.mark.parametrize("name", ["qwen2_5_vl-video", "llava_onevision-video"])
def test_rating_inside_a_forward_disturbs_neither(tiny_model, name):
    model, inputs = tiny_model(name), prompts(name)
    handle = patch(model)
    with torch.no_grad():
        expected, alone = model(**inputs).logits, SelfScorer(decouple=None)(handle, inputs)
        kept = [log.kept.tolist() for log in handle.last.images]
        inside = []

        def rate(module, args, kwargs):
            hook.remove()
            inside.extend(SelfScorer(decouple=None)(handle, inputs))

        hook = model.get_decoder().register_forward_pre_hook(rate, with_kwargs=True, prepend=True)
        assert torch.equal(model(**inputs).logits, expected)
    assert all(torch.equal(a, b) for a, b in zip(inside, alone, strict=True)) and inside
    assert [log.kept.tolist() for log in handle.last.images] == kept
    handle.remove()


def test_an_error_while_rating_leaves_the_model_usable(tiny_model):
    model, inputs = tiny_model("qwen2_5_vl-video"), prompts("qwen2_5_vl-video")
    handle = patch(model)
    expected, before = oracle.generate(model, inputs), state(model)
    with pytest.raises(RuntimeError, match="broken"), undisturbed(handle):
        model(**inputs)
        model.stray = 1
        raise RuntimeError("broken")
    assert state(model) == before
    found = oracle.generate(model, inputs)
    assert torch.equal(torch.stack(found.logits), torch.stack(expected.logits))
    handle.remove()


def test_without_a_processor_the_model_cannot_be_asked(tiny_model):
    handle = vtc.patch(tiny_model("qwen2_5_vl-video"), "random", keep=0.5)
    with pytest.raises(ValueError, match=r"processor=processor"):
        SelfScorer(query="Who?", decouple=None)(handle, prompts("qwen2_5_vl-video"))
    handle.remove()


@pytest.mark.parametrize("name", CASES)
def test_pictures_behind_the_pixels(tiny_model, name):
    """Pixels made of known pictures, as each family packs them, give those pictures back."""
    model, inputs = tiny_model(name), prompts(name)
    key = "pixel_values_videos" if "pixel_values_videos" in inputs else "pixel_values"
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, inputs[key].shape, generator=generator)
    inputs[key] = (levels / 255 - 0.5) / 0.25
    handle = patch(model)
    clips = find_clips(handle, inputs)
    processor = tiny_processor.TinyProcessor()
    assert [c.row for c in clips] == [0, 1]
    shown = clips[1].pictures(handle, 0, processor)
    arrays = [np.asarray(p).transpose(2, 0, 1) for p in shown]
    if "video_grid_thw" not in inputs:
        wanted = levels[1, 0] if key.endswith("videos") else levels[2]
        assert len(arrays) == 1 and np.array_equal(arrays[0], wanted)
    else:
        t, h, w = inputs["video_grid_thw"][1].tolist()
        start, merge = int(inputs["video_grid_thw"][0].prod()), 2
        for picture, array in enumerate(arrays):
            assert array.shape == (3, 4 * h, 4 * w)
            for i in range(h * w):  # patch by patch, groups of 2 x 2 in raster order
                group, inner = divmod(i, merge * merge)
                y = group // (w // merge) * merge + inner // merge
                x = group % (w // merge) * merge + inner % merge
                patch_ = levels[start + i].view(3, 2, 4, 4)[:, picture]
                assert np.array_equal(array[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4], patch_)
        assert len(arrays) == 2
    handle.remove()


class Brightness(PictureScorer):
    def score(self, frames, query, entities=()):
        self.seen = (query, list(entities))
        return torch.tensor([np.asarray(frame).mean() / 255 for frame in frames])


def test_frames_that_are_joined_take_the_better_picture(tiny_model):
    handle, inputs = patch(tiny_model("qwen2_vl")), prompts("qwen2_vl")
    scorer = Brightness(decouple=lambda query: ["cat"])
    found = scorer(handle, inputs)
    assert scorer.seen == (f"{QUESTION} 1", ["cat"])
    clip, processor = find_clips(handle, inputs)[0], tiny_processor.TinyProcessor()
    expected = [max(np.asarray(p).mean() / 255 for p in clip.pictures(handle, i, processor)) for i in range(3)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    handle.remove()


@pytest.fixture(scope="module")
def judge():
    return random_qwen.build(seed=1)


@pytest.mark.parametrize("normalise", ["vocab", "pair"])
def test_a_vision_language_model_says_a(judge, normalise):
    model, processor = judge
    frames = pictures(5, (56, 56))
    found = VLMScorer(model, processor, normalise, batch=2).score(frames, "Who?", ["cat"])
    content = "<|vision_start|><|image_pad|><|vision_end|>Is at least one of these visible in the image: cat? "
    text = f"<|im_start|>user\n{content}A. yes B. no\nReply with the letter only.<|im_end|>\n<|im_start|>assistant\n"
    ids = [processor.tokenizer.convert_tokens_to_ids(letter) for letter in "AB"]
    for frame, score in zip(frames, found, strict=True):
        with torch.no_grad():
            logits = model(**processor(text=[text], images=[frame], return_tensors="pt")).logits[0, -1].double()
        chosen = logits[ids].softmax(0)[0] if normalise == "pair" else logits.softmax(0)[ids[0]]
        assert abs(float(score) - float(chosen)) < 1e-5
    assert found.dtype == torch.float32 and len(set(found.tolist())) == 5


def test_letters():
    tokenizer = random_qwen.build_tokenizer()
    a = tokenizer.convert_tokens_to_ids("A")
    assert letter_id(tokenizer, "<|im_start|>assistant\n", "A") == a
    calls = {"Q:": [1], "Q: A": [1, 5], "Q: B": [1, 6], "Q:A": [9], "Q\n": [1, 2], "Q\nA": [1, 2, 7]}
    pieces = {5: "\u2581A", 6: "\u2581B", 7: "A", 9: ":A"}
    fake = lambda text, add_special_tokens: SimpleNamespace(input_ids=calls[text])  # noqa: E731
    fake.decode = lambda ids: pieces[ids[0]].replace("\u2581", " ")
    assert (letter_id(fake, "Q:", "A"), letter_id(fake, "Q:", "B"), letter_id(fake, "Q\n", "A")) == (5, 6, 7)
    calls["Q: A"] = [1, 9]
    with pytest.raises(ValueError, match="no token for an answer 'A'"):
        letter_id(fake, "Q:", "A")


def test_probabilities_are_taken_in_float32():
    logits = torch.tensor([[3.0, 1.0, 0.5]]).bfloat16()
    expected = torch.softmax(torch.tensor([3.0, 1.0, 0.5]), 0)
    torch.testing.assert_close(letter_probability(logits, 0, 1, "vocab")[0], expected[0])
    torch.testing.assert_close(letter_probability(logits, 0, 1, "pair")[0], expected[0] / expected[:2].sum())


class Encoded(dict):
    def to(self, device):
        return self


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_text_image_models(kind):
    text = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=160,
        max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    vision = dict(tiny.VISION, image_size=24)
    config, cls = (tf.CLIPConfig, tf.CLIPModel) if kind == "clip" else (tf.SiglipConfig, tf.SiglipModel)
    if kind == "siglip":
        text["projection_size"] = 24
    model = cls(config(text_config=text, vision_config=vision)).eval()
    tokenizer, options = tiny_processor.tokenizer(), []

    def processor(text, images, padding, truncation, return_tensors):
        options.append(padding)
        made = tokenizer([f"{t}</s>" for t in text], padding="max_length", max_length=48, return_tensors="pt")
        pixels = torch.stack([torch.from_numpy(np.array(i.resize((24, 24)))).permute(2, 0, 1) / 255 for i in images])
        return Encoded(input_ids=made.input_ids, attention_mask=made.attention_mask, pixel_values=pixels)

    frames = pictures(3)
    found = ContrastiveScorer(model, processor, batch=2).score(frames, "Who waves?", ["cat", "dog"])
    sentences = ["a photo containing cat", "a photo containing dog", "a photo"]
    with torch.no_grad():
        logits = model(**processor(sentences, frames, None, None, None)).logits_per_image
    if kind == "siglip":
        expected = torch.sigmoid(logits[:, :2]).amax(1)
    else:
        expected = torch.stack([torch.softmax(logits[:, [e, 2]], 1)[:, 0] for e in (0, 1)], 1).amax(1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert options[0] == ("max_length" if kind == "siglip" else True)
    for entities in ([], ["cat"]):
        assert ContrastiveScorer(model, processor).score(frames, "Who waves?", entities).shape == (3,)


def test_any_callable_is_a_scorer(judge):
    rate = lambda handle, inputs: [torch.ones(3)]  # noqa: E731
    assert as_scorer(rate) is rate
    assert isinstance(as_scorer("self"), SelfScorer) and isinstance(as_scorer(judge), VLMScorer)
    with pytest.raises(TypeError, match="scorer='other'"):
        as_scorer("other")
    with pytest.raises(ValueError, match="batch=0"):
        SelfScorer(batch=0)
    with pytest.raises(ValueError, match="normalise='all'"):
        VLMScorer(*judge, normalise="all")
    with pytest.raises(ValueError, match="decouple='yes'"):
        SelfScorer(decouple="yes")


def test_a_score_that_is_no_number_names_its_frame(tiny_model):
    class Broken(Brightness):
        def score(self, frames, query, entities=()):
            return super().score(frames, query).index_fill(0, torch.tensor([2]), float("nan"))

    handle = patch(tiny_model("llava_onevision-video"))
    with pytest.raises(ValueError, match="clip 0: frame 2 has score nan"):
        Broken(decouple=None)(handle, prompts("llava_onevision-video"))
    handle.remove()
    with pytest.raises(ValueError, match="frame 1 has score nan"):
        plan(pictures(2), "Who?", scorer=lambda frames, question: [0.5, float("nan")])


def test_pixels_of_unknown_layout_are_refused(tiny_model):
    handle = patch(tiny_model("llava_onevision-video"))
    inputs = prompts("llava_onevision-video")
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"].flatten(0, 1)
    with pytest.raises(ValueError, match="frame_scores"):
        find_clips(handle, inputs)
    inputs = prompts("llava_onevision-video")
    inputs["input_ids"] = inputs["input_ids"].clone()
    inputs["input_ids"][2] = inputs["input_ids"][0]
    inputs["pixel_values_videos"] = inputs["pixel_values_videos"][:1].repeat(2, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="do not belong together"):
        find_clips(handle, inputs)
    handle.remove()
