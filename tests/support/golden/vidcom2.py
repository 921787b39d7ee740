"""Golden files of VidCom2: its official functions, and vLLM's with an exact total."""

from __future__ import annotations

import numpy as np
import torch

from vtc.core.stage import ModelFacts
from vtc.methods import make_method
from vtc.methods._frames import closeness, steady_channels

from ..oracles.views import plain_view


def run(x, grid, **options):
    (stage,) = make_method("vidcom2", **options).stages(ModelFacts())
    return stage.select(plain_view(x, stage.keep_count, grid=grid, modality="video"))


def case(arrays, k):
    frames, height, width, channels = arrays[f"meta{k}"].tolist()
    return torch.from_numpy(arrays[f"x{k}"]).reshape(-1, channels), (frames, height, width)


def select(arrays):
    for k in range(int(arrays["n_cases"])):
        x, grid = case(arrays, k)
        chosen = steady_channels(x, 0.5)
        assert chosen.tolist() == arrays[f"channels{k}"].tolist()
        frame = torch.arange(grid[0]).repeat_interleave(grid[1] * grid[2])
        video, own = closeness(x[:, chosen], frame, torch.bincount(frame))
        for found, name in ((video, "video_score"), (own, "frame_score")):
            torch.testing.assert_close(found, torch.from_numpy(arrays[f"{name}{k}"]).flatten(), atol=1e-5, rtol=1e-5)
        found = run(x, grid, keep=float(arrays[f"ratio{k}"]), exact=False)
        assert found.keep.tolist() == arrays[f"keep{k}"].tolist()
        assert torch.bincount(frame[found.keep], minlength=grid[0]).tolist() == arrays[f"counts{k}"].tolist()


def exact(arrays):
    for k in range(int(arrays["n_cases"])):
        x, grid = case(arrays, k)
        method = make_method("vidcom2", keep=1 - float(arrays[f"q{k}"]))
        count = int(arrays[f"count{k}"])  # vLLM truncates, and keeps one token per frame at least
        method.keep_count = lambda n, count=count: count
        (stage,) = method.stages(ModelFacts())
        found = stage.select(plain_view(x, stage.keep_count, grid=grid, modality="video"))
        assert found.keep.tolist() == np.flatnonzero(arrays[f"mask{k}"]).tolist()


KINDS = {"vidcom2_select": select, "vidcom2_exact": exact}
