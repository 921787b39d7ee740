"""QuoTA inside tiny models, against the stock model fed with resampled features by hand."""

import contextvars
import copy
import threading
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import vtc

from support import oracle, tiny, tiny_families

STEPS = 4


@pytest.fixture
def setup(tiny_model):
    def get(name, sample=0):
        case = tiny_families.ALL[name]
        if isinstance(sample, int):
            return tiny_model(name), tiny.alone(case, sample)
        return tiny_model(name), case.inputs(sample, list(range(len(sample))))

    return get


def run(model, inputs, **options):
    out = oracle.generate(model, inputs, max_new_tokens=STEPS, **options)
    return torch.stack(out.logits, 1), oracle.new_tokens(out, inputs)


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def bilinear(rows, grid, size):
    chart = rows.T.reshape(1, -1, *grid)
    return F.interpolate(chart, size=size, mode="bilinear").flatten(2)[0].T


def frames_of_columns(ids, grids):
    """Columns of every frame of the one video of a row."""
    columns = (ids[0] == tiny.VID).nonzero()[:, 0]
    return columns.split([h * w for h, w in grids])


@torch.no_grad()
def by_hand(model, inputs, sizes, new):
    """Logits of the stock decoder over a prompt in which each frame of H x W tokens is resampled to its size."""
    base, ids = model.model, inputs["input_ids"]
    t, h, w = (inputs["video_grid_thw"][0] // torch.tensor([1, 2, 2])).tolist()
    image = base.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"], return_dict=True)
    video = base.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"], return_dict=True)
    deep = list(zip(getattr(image, "deepstack_features", ()), getattr(video, "deepstack_features", ()), strict=True))
    levels = [(image.pooler_output, video.pooler_output), *deep]
    names = ("mm_token_type_ids", "image_grid_thw", "video_grid_thw", "second_per_grid_ts", "attention_mask")
    positions, _ = base.get_rope_index(ids, **{n: inputs[n] for n in names if n in inputs})
    rows = [base.get_input_embeddings()(ids)[0], *(torch.zeros(ids.shape[1], 32) for _ in deep)]
    pieces = {c: [r[c : c + 1] for r in rows] for c in range(ids.shape[1])}
    places = {c: positions[:, 0, c : c + 1] for c in pieces}
    for c, i in zip((ids[0] == tiny.IMG).nonzero()[:, 0].tolist(), range(10**6), strict=False):
        pieces[c] = [torch.cat(list(level[0]))[i : i + 1] for level in levels]
    for f, (columns, size) in enumerate(zip(frames_of_columns(ids, [(h, w)] * t), sizes, strict=True)):
        first = int(columns[0])
        for c in columns.tolist():
            del pieces[c]
        start, anchor = f * h * w, places[first][:, 0]
        if size[0] == 0:
            continue
        pieces[first] = [bilinear(torch.cat(list(level[1]))[start : start + h * w], (h, w), size) for level in levels]
        ij = [
            (int((i + 0.5) * h / size[0]), int((j + 0.5) * w / size[1])) for i in range(size[0]) for j in range(size[1])
        ]
        places[first] = torch.tensor([[0, i, j] for i, j in ij]).T + anchor[:, None]
    order = sorted(pieces)
    embeds = torch.cat([pieces[c][0] for c in order])
    place = torch.cat([places[c] for c in order], 1)
    embeds = torch.cat([embeds, base.get_input_embeddings()(new[0, :-1])])[None]
    later = positions[:, 0, -1:] + torch.arange(1, new.shape[1])
    options = {"position_ids": torch.cat([place, later], 1)[:, None]}
    if deep:
        length = embeds.shape[1]
        visual = torch.cat([torch.full((len(pieces[c][0]),), int(ids[0, c]) in (tiny.IMG, tiny.VID)) for c in order])
        options["visual_pos_masks"] = F.pad(visual, (0, length - len(visual)))[None]
        options["deepstack_visual_embeds"] = [
            torch.cat([pieces[c][k] for c in order])[visual] for k in range(1, len(levels))
        ]
    out = base.language_model(inputs_embeds=embeds, use_cache=False, **options)
    return model.lm_head(out.last_hidden_state)[:, len(place[0]) - 1 :]


# shares of 12 tokens by 0.81 : 0.09 : 0.01, at most 8 per frame of 2 x 4
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("qwen2_vl", [(2, 4), (1, 3), (0, 0)]),
        ("qwen2_5_vl-video", [(2, 4), (1, 3), (0, 0)]),
        ("qwen3_vl", [(2, 4), (1, 3), (1, 1)]),
    ],
)
def test_equals_the_stock_decoder_on_resampled_features(setup, name, sizes):
    model, inputs = setup(name)
    with torch.no_grad():
        model(**inputs)
    deltas = model.model.rope_deltas.clone()
    with vtc.patched(model, "quota", keep=0.5, frame_scores=[0.9, 0.3, 0.1]) as handle:
        logits, new = run(model, inputs)
        image, video = handle.last.images
        with torch.no_grad():
            close(model(**inputs).logits[:, -1], logits[:, 0])
        assert torch.equal(model.model.rope_deltas, deltas)
    assert image.after == image.before and video.after == sum(h * w for h, w in sizes)
    close(logits, by_hand(model, inputs, sizes, new))


def test_rows_added_by_the_engine_are_resampled_too(setup):
    """A later stage between the layers that add rows makes the engine add them; this one drops nothing."""
    model, inputs = setup("qwen3_vl")
    idle = oracle.Norms(keep=1.0, before=False, cuts=((1, 1.0),))
    with vtc.patched(model, [vtc.methods.Quota(keep=0.5, frame_scores=[0.9, 0.3, 0.1]), idle]):
        logits, new = run(model, inputs)
    close(logits, by_hand(model, inputs, [(2, 4), (1, 3), (1, 1)], new))


@torch.no_grad()
def plain_by_hand(model, inputs, rows, new):
    """The same for families with 1-D positions and one run of video tokens, which ``rows`` replace."""
    base, ids = model.model, inputs["input_ids"][0]
    columns = (ids == tiny.VID).nonzero()[:, 0]
    table = base.get_input_embeddings()
    parts = [table(ids[: columns[0]]), rows, table(ids[columns[-1] + 1 :]), table(new[0, :-1])]
    out = base.language_model(inputs_embeds=torch.cat(parts)[None], use_cache=False)
    return model.lm_head(out.last_hidden_state)[:, -new.shape[1] :]


@torch.no_grad()
def seen(module, call):
    """Input and output of a module during a call."""
    found = []
    hook = module.register_forward_hook(lambda m, args, out: found.append((args[0], out)))
    try:
        call()
    finally:
        hook.remove()
    return found[0]


FILM = [[3, ("video", 4), 4]]


@pytest.mark.parametrize(
    ("scores", "sizes"),
    [([0.0, 0.0, 1.0, 0.0], {2: (4, 4)}), ([0.9, 0.3, 0.1, 0.4], {0: (4, 3), 1: (1, 1), 3: (2, 1)})],
)
def test_onevision_resamples_the_grid_before_pooling(setup, scores, sizes):
    # 18 tokens by 0.81 : 0.09 : 0.01 : 0.16 are 13.6, 1.5, 0.2, 2.7
    model, inputs = setup("llava_onevision-video", FILM)
    base = model.model
    _, frames = seen(base.multi_modal_projector, partial(base.get_video_features, inputs["pixel_values_videos"]))
    rows = [bilinear(frames[f], (6, 6), size) for f, size in sizes.items()]
    with vtc.patched(model, "quota", keep=0.5, frame_scores=scores) as handle:
        logits, new = run(model, inputs)
        free, _ = run(model, inputs, use_cache=False)
        assert handle.last.after == sum(map(len, rows)) + 1  # and the newline
    close(free, logits)
    close(logits, plain_by_hand(model, inputs, torch.cat([*rows, base.image_newline[None]]), new))


def test_next_video_averages_before_the_projector(setup):
    model, inputs = setup("llava_next_video-video", FILM)
    base = model.model
    frames, _ = seen(base.vision_resampler, partial(base.get_video_features, inputs["pixel_values_videos"]))
    # 18 tokens by 0.81 : 0.09 : 0.01 : 0.16, frames of 6 x 6 and pooled 3 x 3
    sizes = {0: (4, 3), 1: (1, 1), 3: (2, 1)}
    rows = []
    for f, size in sizes.items():
        pooled = F.adaptive_avg_pool2d(frames[f].T.reshape(1, -1, 6, 6), size).flatten(2)[0].T
        rows.append(base.multi_modal_projector(pooled).detach())
    with vtc.patched(model, "quota", keep=0.5, frame_scores=[0.9, 0.3, 0.1, 0.4]) as handle:
        logits, new = run(model, inputs)
        assert handle.last.after == 15
    close(logits, plain_by_hand(model, inputs, torch.cat(rows), new))


@pytest.mark.parametrize("name", ["llava_onevision-video", "llava_next_video-video", "qwen2_5_vl-video", "internvl"])
def test_nothing_changes_at_full_budget_or_equal_shares(setup, name):
    model, inputs = setup(name)
    logits, new = run(model, inputs)
    for scores, keep in (([1.0] + [0.0] * 9, 1.0), ("uniform", 1.0), ("uniform", 18)):
        if keep == 18 and name != "llava_onevision-video":
            continue  # elsewhere a count of all tokens is the whole video
        with vtc.patched(model, "quota", keep=keep, frame_scores=scores):
            same, again = run(model, inputs)
        assert torch.equal(same, logits) and torch.equal(again, new)


@pytest.mark.parametrize(
    ("name", "operator"), [("llava_onevision-video", "bilinear"), ("llava_next_video-video", "average")]
)
def test_equal_scores_give_the_pooling_of_the_model(setup, name, operator):
    from vtc.methods.quota.resample import resize

    model, _ = setup(name)
    x = torch.randn(3, 36, 24, generator=torch.Generator().manual_seed(0))
    pool = model.model.apply_pooling if operator == "bilinear" else model.model.vision_resampler
    assert torch.equal(resize(x.unflatten(1, (6, 6)), (3, 3), operator), pool(x))


@pytest.mark.parametrize("name", ["llava_onevision-video", "qwen3_vl"])
def test_a_batch_equals_each_row_alone(setup, name):
    case = tiny_families.ALL[name]
    model, _ = setup(name)
    per_row = [[[0.9, 0.2]], [[0.3, 0.3], [0.1, 0.8]]] if "onevision" in name else [[[0.9, 0.2, 0.4]], [[0.1, 0.8]]]
    with vtc.patched(model, "quota", keep=0.4) as handle:
        with handle.frame_scores([s for row in per_row for s in row]):
            together, _ = run(model, tiny.batch(case))
            beams = model.generate(**tiny.batch(case), **{**tiny.GENERATE, "num_beams": 2, "max_new_tokens": 3})
        for row, scores in enumerate([*per_row, "uniform"]):
            with handle.frame_scores(scores):
                inputs = tiny.alone(case, row)
                alone, _ = run(model, inputs)
                beam = model.generate(**inputs, **{**tiny.GENERATE, "num_beams": 2, "max_new_tokens": 3})
            close(together[row], alone[0])
            assert torch.equal(beams[row, -3:], beam[0, -3:])


def test_images_of_a_row_without_video_are_its_frames(setup):
    model, inputs = setup("internvl", 1)
    with vtc.patched(model, "quota", keep=0.5, frame_scores=[0.0, 1.0]) as handle:
        run(model, inputs)
        # 4 + 4 tokens; words stand between the images, so each keeps one
        assert [i.after for i in handle.last.images] == [1, 6]
        with handle.frame_scores([1.0, 2.0, 3.0]), pytest.raises(ValueError, match="3 scores for a video of 2 frames"):
            run(model, inputs)
        run(model, inputs)


def test_scores_of_the_wrong_number_of_videos(setup):
    model, inputs = setup("llava_onevision-video", 1)
    with vtc.patched(model, "quota", keep=0.5, frame_scores=[0.5, 0.5]):
        with pytest.raises(ValueError, match="one vector of scores for a batch with 2 videos"):
            run(model, inputs)


def test_scores_for_one_call(setup):
    model, inputs = setup("llava_onevision-video", FILM)
    with vtc.patched(model, "quota", keep=0.5) as handle:
        with pytest.raises(ValueError, match="quota needs a score per frame"):
            run(model, inputs)
        for scores, after in (([0, 0, 1, 0], 17), (torch.tensor([0.0, 1, 1, 0]), 19), ("uniform", 17)):
            with handle.frame_scores(scores):
                run(model, inputs)
                assert handle.last.after == after
        assert handle.methods[0].frame_scores is None
        with pytest.raises(ValueError, match="frame 0 has score -1.0"), handle.frame_scores([-1.0]):
            pass
    with vtc.patched(model, "random") as handle, pytest.raises(ValueError, match="'quota'"), handle.frame_scores([1.0]):
        pass


class Scorer:
    """Remembers what it was asked and runs the model itself."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def __call__(self, handle, inputs):
        assert not handle.enabled and not torch.is_grad_enabled()
        self.asked.append(set(inputs))
        handle.model(**{**tiny.alone(tiny_families.ALL["qwen2_5_vl-video"], 1), "use_cache": False})
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_scorer_is_asked_once_per_call(setup):
    model, inputs = setup("qwen2_5_vl-video")
    scores = torch.tensor([0.9, 0.3, 0.1])
    with vtc.patched(model, "quota", keep=0.5, frame_scores=scores):
        expected, _ = run(model, inputs)
    scorer = Scorer([scores])
    with vtc.patched(model, "quota", keep=0.5, scorer=scorer, query="Where is the red ball?") as handle:
        logits, _ = run(model, inputs)
        assert torch.equal(logits, expected) and len(scorer.asked) == 1
        assert {"input_ids", "pixel_values_videos", "video_grid_thw"} <= scorer.asked[0]
        assert handle.report().to_dict()["seconds"]["score"] > 0
        with torch.no_grad():
            close(model(**inputs).logits[:, -1], expected[:, 0])
        assert len(scorer.asked) == 2
        with handle.frame_scores("uniform"):
            run(model, inputs)
        text = {k: v[:, :4] for k, v in inputs.items() if k in ("input_ids", "attention_mask", "mm_token_type_ids")}
        model.generate(**text, **tiny.GENERATE)
        assert len(scorer.asked) == 2
        scorer.answer = RuntimeError("no opinion")
        for call in (partial(run, model, inputs), partial(model, **inputs)):
            with pytest.raises(RuntimeError, match="no opinion"):
                call()
        scorer.answer = [0.5, 0.5]
        with pytest.raises(TypeError, match="must return a list of tensors"):
            run(model, inputs)
        scorer.answer = [scores]
        again, _ = run(model, inputs)
        assert torch.equal(again, expected) and handle.enabled
    assert "generate" not in model.__dict__


def test_scores_reach_a_thread_that_streams(setup):
    model, inputs = setup("llava_onevision-video", FILM)
    with vtc.patched(model, "quota", keep=0.5) as handle, handle.frame_scores([0, 0, 1, 0]):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(run, model, inputs))
        thread.start()
        thread.join()
        assert handle.last.after == 17


def test_a_copy_of_a_patched_model_has_its_own_scores(setup):
    model, inputs = setup("qwen2_5_vl-video")
    with vtc.patched(model, "quota", keep=0.5, scorer=Scorer([torch.tensor([0.9, 0.3, 0.1])])) as handle:
        expected, _ = run(model, inputs)
        twin = copy.deepcopy(model)
        own = twin.__dict__["_vtc_handle"]
        own.methods[0].scorer.answer = [torch.ones(3)]
        different, _ = run(twin, inputs)
        assert own is not handle and own.methods[0].scorer.asked != handle.methods[0].scorer.asked
        same, _ = run(model, inputs)
    assert torch.equal(same, expected) and not torch.allclose(different, expected)


def test_gradients_reach_the_encoder(setup):
    model, inputs = setup("llava_onevision-video", FILM)
    with vtc.patched(model, "quota", keep=0.5, frame_scores=[0, 0, 1, 0]):
        model(**inputs).logits[:, -1].sum().backward()
    grads = [p.grad for p in model.model.vision_tower.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    assert any(bool(g.abs().sum() > 0) for g in grads)


def test_after_another_method(setup):
    model, inputs = setup("llava_onevision-video", FILM)
    methods = [vtc.methods.Random(keep=0.5, seed=1), vtc.methods.Quota(keep=0.5, frame_scores="uniform")]
    with vtc.patched(model, methods) as handle:
        logits, _ = run(model, inputs)
        free, _ = run(model, inputs, use_cache=False)
        assert 1 < handle.last.after <= 10
    close(logits, free)
