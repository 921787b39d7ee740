"""Methods that act before the language model, on video: per frame or over all frames, beside images, in batches."""

import pytest
import torch

import vtc
from vtc.core.budget import keep_count, split_evenly
from vtc.core.layout import Role

from support import oracle, tiny, tiny_families

GRIDS = [
    [3, ("video", (3, 4, 8)), 2],
    [2, ("image", (1, 8, 12)), 4, ("video", (2, 8, 8)), 1],
    [2, ("image", (1, 4, 8)), 1, ("image", (1, 8, 8)), 5],
]
TILES = [
    [3, ("video", 3), 2],
    [2, ("image", (40, 48)), 4, ("video", 3), 1],
    [2, ("image", (20, 48)), 1, ("image", (30, 30)), 5],
]
SAMPLES = {
    "llava_onevision-video": TILES,
    "llava_next_video-video": TILES,
    "qwen2_vl": GRIDS,
    "qwen2_5_vl-video": GRIDS,
    "qwen3_vl": GRIDS,
}
PER_FRAME = {"vtc-cls", "hired", "visionzip", "pool"}
ALL_FRAMES = {"todre", "divprune", "vidcom2"}
WITH_NEWLINES = {"random", "vflowopt"}
METHODS = sorted(PER_FRAME | ALL_FRAMES | WITH_NEWLINES)
OPTIONS = {"vflowopt": {"exact_budget": True}}


def run(model, inputs):
    """Logits of the first new token [B, V]."""
    return oracle.generate(model, inputs, max_new_tokens=1).logits[0]


def frame_counts(log):
    """Patches of every frame, before and behind the projector."""
    unit = log.unit.filled()
    patches = unit.role == Role.PATCH
    kept = torch.zeros(log.before, dtype=torch.bool)
    kept[log.entered] = True
    frames = len(unit.part_grids)
    count = lambda chosen: torch.bincount(unit.part[chosen], minlength=frames).tolist()  # noqa: E731
    return count(patches), count(patches & kept)


def check_video(log, method, keep, handle):
    """Counts of one video, from its scope written out here."""
    before, after = frame_counts(log)
    newlines = log.before - sum(before)
    if method in PER_FRAME:
        share = int if method == "hired" else round
        exact = split_evenly(keep, before) if isinstance(keep, int) else [max(1, share(keep * n)) for n in before]
        if method == "pool":  # a lattice that fits the budget
            assert all(0 < found <= most for found, most in zip(after, exact, strict=True))
        else:
            assert after == exact
    elif method in ALL_FRAMES:
        assert sum(after) == len(log.entered) == keep_count(keep, sum(before))
    else:
        stage = handle.methods[0].stages(handle.facts)[0]
        assert len(log.entered) == stage.keep_count(log.before) == sum(after) + (len(log.entered) - sum(after))
        assert len(log.entered) - sum(after) <= newlines
        if method == "random":
            assert len(log.entered) == keep_count(keep, log.before)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("method", METHODS)
def test_counts_and_batches(tiny_model, name, method):
    model, case, samples = tiny_model(name), tiny_families.ALL[name], SAMPLES[name]
    handle = vtc.patch(model, method, keep=0.34, **OPTIONS.get(method, {}))
    try:
        logits = run(model, case.inputs(samples, [0, 1, 2]))
        logs = handle.last.images
        assert [(log.row, log.modality) for log in logs] == [
            (0, "video"), (1, "image"), (1, "video"), (2, "image"), (2, "image"),
        ]  # fmt: skip
        for log in logs:
            assert 0 < len(log.entered) < log.before
            if log.modality == "video":
                check_video(log, method, 0.34, handle)
        for row in range(3):
            one = run(model, case.inputs([samples[row]], [row]))
            mine = [log for log in logs if log.row == row]
            assert [log.kept.tolist() for log in handle.last.images] == [log.kept.tolist() for log in mine]
            assert (one[0] - logits[row]).abs().max() < 1e-4
    finally:
        handle.remove()


@pytest.mark.parametrize("method", METHODS)
def test_a_number_of_tokens_is_per_video(tiny_model, method):
    model = tiny_model("llava_next_video-video")
    inputs = tiny_families.ALL["llava_next_video-video"].inputs([[3, ("video", 3), 2]], [0])
    options = {**OPTIONS.get(method, {}), **({"progressive": False} if method == "vflowopt" else {})}
    with vtc.patched(model, method, keep=7, **options) as handle:
        run(model, inputs)
        (log,) = handle.last.images
        check_video(log, method, 7, handle)
        assert len(log.entered) <= 7


@pytest.mark.parametrize("method", ["todre", "divprune", "vidcom2"])
def test_one_selection_for_a_whole_prompt(tiny_model, method):
    """scope="row": the budgets of image and video are added up, and both compete."""
    model = tiny_model("qwen2_vl")
    inputs = tiny_families.ALL["qwen2_vl"].inputs([GRIDS[1]], [1])
    with vtc.patched(model, method, keep=0.25, scope="row") as handle:
        run(model, inputs)
        entered = [len(log.entered) for log in handle.last.images]
    assert sum(entered) == 6 + 8


def test_the_placeholder_ids_are_those_of_the_cases(tiny_model):
    for name in SAMPLES:
        ids = vtc.find_adapter(tiny_model(name)).token_ids(tiny_model(name))
        assert ids == {"image": tiny.IMG, "video": tiny.VID}
