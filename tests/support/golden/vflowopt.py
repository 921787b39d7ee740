"""Golden files of VFlowOpt, stage 1."""

from __future__ import annotations

import torch

from vtc.core.layout import Role
from vtc.core.stage import ModelFacts
from vtc.core.statistics.entropy import patch_entropy
from vtc.core.statistics.focus import focus_dense, global_set
from vtc.methods import make_method

from .packing import pack
from support.oracles.views import plain_view, tiled_view

FACTS = ModelFacts(family="test", vision_layers=26, feature_layer=25, global_layers=tuple(range(26)))


def entropy(arrays):
    pixels = torch.from_numpy(arrays["pixel_values"])
    for mode, name in (("paper", "entropy_paper"), ("wrapped", "entropy_official")):
        found = patch_entropy(pixels, 14, mode)
        torch.testing.assert_close(found, torch.from_numpy(arrays[name]), atol=1e-5, rtol=0)


def importance_of(arrays):
    alpha = float(arrays["alpha"])
    found = focus_dense(torch.from_numpy(arrays["attn"]), float(arrays["t"]))
    return found + alpha * torch.softmax(torch.from_numpy(arrays["entropy"]), -1)


def importance(arrays):
    received = torch.from_numpy(arrays["attn"]).mean(1).mean(1)
    counts = global_set(received, float(arrays["t"])).sum(-1)
    assert counts.tolist() == arrays["num_global"].tolist()
    expected = torch.from_numpy(arrays["importance"])
    torch.testing.assert_close(importance_of(arrays), expected, atol=1e-6, rtol=1e-5)


def recycled(arrays):
    features, scores = torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["importance"])
    compare(arrays, features, scores, int(arrays["base_side"]), int(arrays["local_w"]))
    n = len(features)
    assert round(n * (1 - float(arrays["r_v"]))) == int(arrays["reduce"])
    assert int(n / float(arrays["cell"]) ** 2) == int(arrays["num_merged"])
    assert len(arrays["recycled_slots"]) == int(arrays["num_groups"])


def pipeline(arrays):
    maps = importance_of(arrays)
    torch.testing.assert_close(maps, torch.from_numpy(arrays["importance"]), atol=1e-6, rtol=1e-5)
    side, grid = int(arrays["side"]), tuple(arrays["grid_hw"].tolist())
    size, most = tuple(reversed(arrays["image_size_wh"].tolist())), int(arrays["max_num_patches"])
    features, width = pack(
        torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["newline"]), grid, side, size, most
    )
    scores, _ = pack(maps[..., None], torch.ones(1), grid, side, size, most)
    assert width == int(arrays["local_w"])
    torch.testing.assert_close(features, torch.from_numpy(arrays["stitched_features"]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores[:, 0], torch.from_numpy(arrays["stitched_importance"]), atol=1e-6, rtol=1e-5)
    found = compare(arrays, features, scores[:, 0], side, width)
    ratios = [float(str(r)) for r in arrays["stage_ratios"]]  # the decimals behind the rounded floats
    later(arrays, found.scores[found.keep], ratios, int(arrays["text_before"]), role_of(found))


def role_of(found):
    """Newlines of the kept tokens: the only ones with importance 1."""
    return (found.scores[found.keep] == 1.0).long() * int(Role.NEWLINE)


def stages(arrays):
    scores = torch.from_numpy(arrays["importance"])
    later(
        arrays, scores, [float(r) for r in arrays["ratios_text"]], int(arrays["image_start"]), torch.zeros(len(scores))
    )
    for i in (0, 1):  # text keeps its place, what survives keeps its position
        mask, before = torch.from_numpy(arrays[f"keep_{i}"]), torch.arange(int(arrays["seq_len"]))
        before = before if i == 0 else torch.from_numpy(arrays["position_ids_0"])
        assert torch.equal(before[mask], torch.from_numpy(arrays[f"position_ids_{i}"]))


def later(arrays, scores, ratios, start, role):
    """Stages 2 and 3 on the importance of the tokens that are left, against masks over the whole sequence."""
    method = make_method("vflowopt", keep=0.25, r1=0.5, r2=ratios[0], r3=ratios[1])
    facts = ModelFacts("test", 26, 25, False, tuple(range(26)), 28)
    cuts = method.stages(facts)[1:]
    assert [(s.at.layer, s.positions) for s in cuts] == [(9, "keep"), (18, "keep")]
    for i, stage in enumerate(cuts):
        mask = torch.from_numpy(arrays[f"keep_{i}"])
        view = plain_view(torch.zeros(len(scores), 1), stage.keep_count, {stage.needs[0]: scores})
        view.role = role.long()
        kept = stage.select(view).keep
        after = len(mask) - start - len(scores)
        expected = torch.cat([torch.ones(start).bool(), torch.zeros(len(scores)).bool(), torch.ones(after).bool()])
        expected[start + kept] = True
        assert torch.equal(expected, mask)
        scores, role = scores[kept], role[kept]


def compare(arrays, features, scores, side, width):
    """Stage 1 on a packed image, whose importance is complete, against the stored mask, slots and rows."""
    method = make_method("vflowopt", keep=float(arrays["r_v"]), cell=float(arrays["cell"]))
    (stage,) = method.stages(FACTS)
    rest = len(features) - side * side
    part = torch.cat([torch.zeros(side * side, dtype=torch.long), torch.ones(rest, dtype=torch.long)])
    cell = torch.cat([torch.arange(side * side), torch.arange(rest)])
    newline = torch.cat([torch.zeros(side * side, dtype=torch.bool), torch.arange(rest) % width == width - 1])
    role = newline.long() * int(Role.NEWLINE)
    stats = {stage.needs[0]: torch.where(newline, torch.nan, scores)}
    grids = [(side, side), (rest // width, width)]
    view = tiled_view(features, stage.keep_count, stats, part, cell, role, grids, {})
    found = stage.select(view)
    mask = torch.zeros(len(features), dtype=torch.bool)
    mask[found.keep] = True
    assert torch.equal(mask, torch.from_numpy(arrays["keep"]))
    merged = found.groups.bincount() > 1
    slots = set(arrays["recycled_slots"].tolist())
    assert set(found.keep[merged].tolist()) <= slots <= set(found.keep.tolist())
    torch.testing.assert_close(found.values, torch.from_numpy(arrays["out_features"]), atol=1e-4, rtol=1e-4)
    kept_scores = torch.from_numpy(arrays["out_importance"])
    torch.testing.assert_close(found.scores[found.keep], kept_scores, atol=1e-6, rtol=1e-5)
    return found


def topk(arrays):
    scores, ratio = torch.from_numpy(arrays["importance"]), float(arrays["r"])
    method = make_method("vflowopt", keep=ratio)
    (stage,) = method.stages(FACTS)
    for row, expected in zip(scores, arrays["keep_multi_image"], strict=True):
        view = plain_view(torch.zeros(len(row), 1), stage.keep_count, {stage.needs[0]: row}, (1, 27, 27))
        assert stage.select(view).keep.tolist() == expected.nonzero()[0].tolist()
    video = torch.from_numpy(arrays["video_importance"])
    n = len(video)
    part, cell = torch.arange(n) // 196, torch.arange(n) % 196
    role = (torch.arange(n) == n - 1).long() * int(Role.NEWLINE)
    view = tiled_view(
        torch.zeros(n, 1),
        stage.keep_count,
        {stage.needs[0]: video},
        part,
        cell,
        role,
        [(14, 14)] * (n // 196),
        {},
    )
    view.units[0] = type(view.units[0])("video", n, None, part, cell, role, view.units[0].part_grids)
    assert stage.select(view).keep.tolist() == arrays["keep_video"].nonzero()[0].tolist()


KINDS = {
    "vflowopt_entropy": entropy,
    "vflowopt_importance": importance,
    "vflowopt_recycle": recycled,
    "vflowopt_topk": topk,
    "vflowopt_pipeline": pipeline,
    "vflowopt_stages": stages,
}
