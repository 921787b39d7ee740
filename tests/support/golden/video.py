"""Golden files of video methods: V-CAST's official functions and vLLM's mask of EVS."""

from __future__ import annotations

import numpy as np
import torch

from vtc.core.stage import ModelFacts
from vtc.core.subspace import residual_to_past
from vtc.methods import make_method
from vtc.methods.evs import changes
from vtc.methods.gleanvid import cell_means, debiased, places
from vtc.methods.vcast import allocate, curvature, standing_out

from ..oracles.views import plain_view
from .vidcom2 import case


def run(x, grid, name, **options):
    (stage,) = make_method(name, **options).stages(ModelFacts())
    return stage.select(plain_view(x, stage.keep_count, grid=grid, modality="video"))


def frames_of(grid):
    frame = torch.arange(grid[0]).repeat_interleave(grid[1] * grid[2])
    return frame, torch.bincount(frame)


def vcast(arrays):
    for i in range(int(arrays["n_alloc"])):
        total, least, most = arrays[f"alloc_in{i}"].tolist()
        weights = torch.from_numpy(arrays[f"alloc_w{i}"])
        assert allocate(total, weights, [most] * len(weights), least, "official") == arrays[f"alloc_out{i}"].tolist()
    for k in range(int(arrays["n_cases"])):
        x, grid = case(arrays, k)
        frame, sizes = frames_of(grid)
        score, frames = standing_out(x, frame, sizes)
        bends = curvature(frames)
        weights = torch.softmax(bends / float(arrays["temperature"]), 0)
        for found, name in ((bends, "curvature"), (weights, "weights"), (score, "score")):
            torch.testing.assert_close(found, torch.from_numpy(arrays[f"{name}{k}"]).flatten(), atol=1e-5, rtol=1e-4)
        budget = arrays[f"budget{k}"]
        options = {"min_per_frame": int(arrays[f"min_k{k}"]), "leftover": "official"}
        found = run(x, grid, "vcast", keep=int(budget.sum()), **options)
        assert torch.bincount(frame[found.keep], minlength=grid[0]).tolist() == budget.tolist()
        assert found.keep.tolist() == arrays[f"keep{k}"].tolist()


def evs(arrays):
    for k in range(int(arrays["n_cases"])):
        x, grid = case(arrays, k)
        frame, sizes = frames_of(grid)
        change = changes(x, frame, torch.arange(grid[1] * grid[2]).repeat(grid[0]))
        torch.testing.assert_close(change, torch.from_numpy(arrays[f"change{k}"]).flatten(), atol=2e-6, rtol=1e-5)
        count = int(arrays[f"count{k}"])
        found = run(x, grid, "evs", keep=count)
        assert found.keep.tolist() == np.flatnonzero(arrays[f"mask{k}"]).tolist()
        assert len(found.keep) == max(int(sizes[0]), int(len(x) * (1 - float(arrays[f"q{k}"]))))


def gleanvid(arrays):
    for k in range(int(arrays["n_cases"])):
        x, grid = case(arrays, k)
        x = x.double()
        frame, _ = frames_of(grid)
        total = int(arrays[f"budgets{k}"].sum())
        method = make_method("gleanvid", keep=total)
        (stage,) = method.stages(ModelFacts())
        view = plain_view(x, stage.keep_count, grid=grid, modality="video")
        _, cell = places(view, torch.arange(len(x)))
        hat = debiased(x)
        pooled, slot = cell_means(hat, frame, cell)
        novelty = residual_to_past(pooled, None).flatten()[slot]
        close(novelty, arrays[f"novelty{k}"], 1e-4)
        counts = method.budgets(novelty, frame, total)
        assert counts == arrays[f"budgets{k}"].tolist()
        score, kept = method.walk(x, hat, frame, cell, counts)
        close(score, arrays[f"scores{k}"], 1e-4)
        assert kept.tolist() == arrays[f"keep{k}"].tolist()
        assert stage.select(view).keep.tolist() == arrays[f"keep{k}"].tolist()


def close(found, expected, tolerance):
    torch.testing.assert_close(found, torch.from_numpy(expected).flatten(), atol=tolerance, rtol=tolerance)


KINDS = {"vcast_select": vcast, "evs_mask": evs, "gleanvid_paper": gleanvid}
