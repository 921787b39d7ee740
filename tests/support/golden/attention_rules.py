"""Golden files of VScan, VisPruner and HoloV: official functions executed."""

from __future__ import annotations

import torch

from vtc.core.stage import ModelFacts
from vtc.methods import make_method
from vtc.methods._windows import best_of_windows, windows_of

from ..oracles.views import plain_view

FACTS = ModelFacts(family="llava", vision_layers=24, feature_layer=22, has_class_token=True, decoder_layers=32)


def crops_view(x, stage, stats, grid=None):
    """View of one image of several crops [B, N, D]."""
    crops, n, _ = x.shape
    view = plain_view(x.flatten(0, 1), stage.keep_count, stats)
    view.part = torch.arange(crops).repeat_interleave(n)
    view.cell = torch.arange(n).repeat(crops)
    view.units[0] = view.units[0].__class__(
        "image", crops * n, None, view.part, view.cell, view.role, (grid or (1, n),) * crops
    )
    return view


def vscan(arrays):
    for i in range(int(arrays["count"])):
        x, k = torch.from_numpy(arrays[f"features_{i}"]), int(arrays[f"k_{i}"])
        shallow, deep = (torch.from_numpy(arrays[f"{name}_{i}"]).mean(1).flatten() for name in ("shallow", "deep"))
        crops = len(x)
        (stage,) = make_method("vscan", keep=k * crops, stage2="off").stages(FACTS)
        view = crops_view(x, stage, dict(zip(stage.needs, (shallow, deep), strict=True)), (24, 24))
        found = stage.select(view)
        expected = torch.from_numpy(arrays[f"kept_{i}"])
        assert found.keep.view(crops, k).remainder(x.shape[1]).tolist() == expected.sort(1).values.tolist()
        merged = torch.from_numpy(arrays[f"merged_{i}"]).flatten(0, 1)
        torch.testing.assert_close(found.values, merged, atol=1e-5, rtol=1e-4)


def windows(arrays):
    for i in range(int(arrays["count"])):
        scores, k = torch.from_numpy(arrays[f"attention_{i}"]), int(arrays[f"k_{i}"])
        grid, side = tuple(arrays[f"grid_{i}"].tolist()), int(arrays[f"window_{i}"])
        window, count = windows_of(torch.arange(len(scores)), grid, side)
        assert best_of_windows(scores, window, count, k).tolist() == arrays[f"order_{i}"].tolist()


def vispruner(arrays):
    for i in range(int(arrays["count"])):
        x, k = torch.from_numpy(arrays[f"features_{i}"]), int(arrays[f"k_{i}"])
        attention = torch.from_numpy(arrays[f"attention_{i}"]).mean(1).flatten()
        options = {"important": round(float(arrays[f"important_ratio_{i}"]), 6)}
        (stage,) = make_method("vispruner", keep=k * len(x), **options).stages(FACTS)
        found = stage.select(crops_view(x, stage, {stage.needs[0]: attention}))
        kept = found.keep.view(len(x), k).remainder(x.shape[1])
        assert kept.tolist() == torch.from_numpy(arrays[f"kept_{i}"]).sort(1).values.tolist()


def holov(arrays):
    for i in range(int(arrays["count"])):
        x, attention = torch.from_numpy(arrays[f"features_{i}"]), torch.from_numpy(arrays[f"attention_{i}"])
        picked = [int(p) for p in arrays[f"picked_{i}"] if p >= 0]
        options = {"bands": int(arrays[f"crops_{i}"]), "leftover": "drop"}
        (stage,) = make_method("holov", keep=int(arrays[f"k_{i}"]), **options).stages(FACTS)
        found = stage.select(plain_view(x, stage.keep_count, {stage.needs[0]: attention}))
        assert found.keep.tolist() == sorted(picked)


KINDS = {"vscan": vscan, "vscan_windows": windows, "vispruner": vispruner, "holov": holov}
