"""Golden files of QuoTA."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from vtc.core.stage import FrameGrids
from vtc.core.tome import match, match_every, merge_down
from vtc.methods import make_method
from vtc.methods.quota.resample import ON_GRIDS, resize, shrink, token_grid
from vtc.methods.quota.shares import assign, cap_as_published, frame_weights, whole_tokens

from support.oracles.views import plain_view

VERSIONS = {"v1": "bilinear", "v2": "average", "v3": "pick", "v4": "merge", "v5": "separable"}


def close(got, expected, tolerance=1e-5):
    torch.testing.assert_close(got, torch.from_numpy(expected).to(got.dtype), atol=tolerance, rtol=0)


def cases(arrays):
    for k in range(int(arrays["n_cases"])):
        yield k, {n[: -len(str(k))]: a for n, a in arrays.items() if n.endswith(str(k)) and not is_longer(n, k)}


def is_longer(name, k):
    """True when ``name`` ends with a longer number than ``k``."""
    return name[: -len(str(k))][-1:].isdigit()


def assignment(arrays):
    for _, case in cases(arrays):
        side, *budget = case["meta"].tolist()
        scores, budget = torch.from_numpy(case["s"]), math.prod(budget)
        sizes = torch.full((len(scores),), side * side)
        weights = frame_weights(scores)
        close(weights, case["w"], 1e-12)
        assert whole_tokens(budget * weights).tolist() == case["tok"].tolist()
        assert [token_grid(c, side, side, cap=False) for c in case["tok"].tolist()] == [tuple(g) for g in case["hw"]]
        close(cap_as_published(weights, sizes.double() / budget), case["wc"], 1e-12)
        for cap, expected in (("none", case["tok"]), ("official", case["tokc"])):
            if expected.any():  # else ours gives the best frames a token
                assert assign(scores, sizes, budget, cap, sizes) == expected.tolist()
    prob = torch.from_numpy(arrays["logits"]).softmax(-1)[:, int(arrays["a_id"])]
    close(prob, arrays["prob"], 1e-6)
    # these weights are not normalised
    close(frame_weights(torch.from_numpy(arrays["prob"])), arrays["weight"] / arrays["weight"].sum(), 1e-6)


def operators(arrays):
    for _, case in cases(arrays):
        side, *budget = case["meta"].tolist()
        frames, scores = torch.from_numpy(case["x"]).float(), torch.from_numpy(case["s"])
        grid = frames.unflatten(1, (side, side))
        half = -(-side // 2)
        pooled = resize(grid, (half, half), "bilinear")
        close(pooled, case["pool_bilinear"])
        channels = grid.permute(0, 3, 1, 2)
        close(resize(grid[:, : side // 2 * 2, : side // 2 * 2], (side // 2,) * 2, "average"), case["pool_average"])
        close(torch.nn.functional.max_pool2d(channels, 2).flatten(2).transpose(1, 2), case["pool_max"])
        for version, operator in VERSIONS.items():
            rows, shapes = resampled(frames, pooled, side, scores, math.prod(budget), operator)
            close(torch.cat(rows), case[f"{version}_out"], 1e-4 if version == "v5" else 1e-5)
            shape = case.get(f"{version}_hw", case.get(f"{version}_len"))
            assert torch.equal(torch.tensor(shapes), torch.from_numpy(shape))
            whole_method(frames, pooled, side, scores, math.prod(budget), operator, torch.cat(rows))


def resampled(frames, pooled, side, scores, budget, operator):
    """Rows of every frame that stays, and their grids or lengths."""
    before = pooled if operator == "merge" else frames
    most = torch.full((len(frames),), before.shape[1])
    counts = assign(scores, most, budget, "none" if operator == "bilinear" else "official", most)
    rows, shapes = [], []
    for frame, count in zip(before, counts, strict=True):
        if not count:
            continue
        if operator in ON_GRIDS:
            size = token_grid(count, side, side, cap=operator != "bilinear")
            rows.append(resize(frame.unflatten(0, (side, side))[None], size, operator)[0])
        else:
            rows.append(shrink(frame[None], count, operator)[0])
        shapes.append(size if operator in ON_GRIDS else count)
    return rows, shapes


def whole_method(frames, pooled, side, scores, budget, operator, expected):
    """The method itself on the view of a video; it has no more slots than the video has tokens."""
    if len(expected) > pooled.shape[0] * pooled.shape[1] or budget >= pooled.shape[0] * pooled.shape[1]:
        return
    cap = "none" if operator == "bilinear" else "official"
    method = make_method("quota", keep=budget, frame_scores=scores, operator=operator, cap=cap)
    grid = (len(pooled), -(-side // 2), -(-side // 2))
    view = plain_view(pooled.flatten(0, 1), method.keep_count, grid=grid, modality="video")
    view.unpooled = FrameGrids(frames, (side, side), "bilinear", torch.nn.Identity())
    got = method.select(view)
    assert bool((got.keep.diff() > 0).all())
    torch.testing.assert_close(got.values, expected, atol=1e-4 if operator == "separable" else 1e-5, rtol=0)


def merging(arrays):
    for _, case in cases({n: a for n, a in arrays.items() if n[0] not in "kr"}):
        x = torch.from_numpy(case["x"])
        remove, class_token, distill_token = case["cfg"].tolist()
        merge = match(x, remove, bool(class_token), bool(distill_token))
        mean = merge.mean(x)
        close(mean, case["mean"])
        rows, size = merge.weighted(x)
        close(rows, case["wavg"])
        close(size, case["size"], 0)
        assert torch.equal(merge.source(), torch.from_numpy(case["src"]).float())
        if (
            distill_token and mean.shape[1] < x.shape[1]
        ):  # the published inverse reads the rows as if this token had not been moved forward
            stay = -(-x.shape[1] // 2) - (x.shape[1] - mean.shape[1])
            place = torch.tensor([0, *range(2, stay + 1), 1, *range(stay + 1, mean.shape[1])])
            merge = replace(merge, target=place.argsort()[merge.target])
        close(merge.unmerge(mean), case["unmerge"])
    x = torch.from_numpy(arrays["kx"])
    for name in (n for n in arrays if n[0] == "k" and n[1:].isdigit()):
        rows, size = match_every(x, int(name[1:])).weighted(x)
        close(rows, arrays[name])
        close(size, arrays[f"{name}_size"], 0)
    for name in (n for n in arrays if n[0] == "r" and n[1:].isdigit()):
        close(merge_down(torch.from_numpy(arrays["rx"]), int(name[1:])), arrays[name])


def end_to_end(arrays):
    for _, case in cases(arrays):
        side, *budget = case["meta"].tolist()
        frames, scores = torch.from_numpy(case["x"]).float(), torch.from_numpy(case["s"])
        operator, newline = VERSIONS[str(case["version"])], torch.from_numpy(case["newline"])
        half = -(-side // 2)
        pooled = resize(frames.unflatten(1, (side, side)), (half, half), "bilinear")
        rows, shapes = resampled(frames, pooled, side, scores, math.prod(budget), operator)
        video = packed(rows, shapes, newline, str(case["mode"]))
        table, ids = torch.from_numpy(case["emb"]), torch.from_numpy(case["ids"])[0]
        at = int((ids == -200).nonzero())
        embeds = torch.cat([table[ids[:at]], video, table[ids[at + 1 :]]])[None]
        close(embeds, case["embeds"], 1e-4 if operator == "separable" else 1e-5)
        assert torch.arange(embeds.shape[1])[None].tolist() == case["pos"].tolist()
        assert case["mask"].all() and case["mask"].shape == embeds.shape[:2]


def packed(rows, shapes, newline, mode):
    """Rows of all frames with the newlines of a "grid" or a "one_token" checkpoint."""
    if mode == "one_token":
        return torch.cat([*rows, newline[None]])
    lines = [r.unflatten(0, shape) for r, shape in zip(rows, shapes, strict=True)]
    return torch.cat([torch.cat([x, newline.expand(len(x), 1, -1)], 1).flatten(0, 1) for x in lines])


KINDS = {
    "quota_assign": assignment,
    "quota_ops": operators,
    "quota_merge": merging,
    "quota_e2e": end_to_end,
}
