"""Features of a tiny model, what its tower was called with, and a patch that is made to stand out."""

from __future__ import annotations

import torch
from torch import Tensor

from vtc.adapters import FeatureCall

ARGUMENTS = dict(
    image="pixel_values pixel_values_images image_grid_thw image_sizes image_merge_sizes image_position_ids".split(),
    video="pixel_values_videos video_grid_thw video_merge_sizes video_position_ids num_frames_per_video".split(),
)


def encode(model, inputs, modality) -> Tensor:
    kwargs = {k: inputs[k] for k in ARGUMENTS[modality] if k in inputs}
    rows = getattr(model.model, f"get_{modality}_features")(**kwargs).pooler_output
    return torch.cat([r.reshape(-1, r.shape[-1]) for r in rows])


def tower_call(model, adapter, inputs, modality) -> tuple[FeatureCall, torch.Size]:
    shapes = []
    hook = adapter.tower_blocks(model, modality)[0].register_forward_pre_hook(
        lambda m, a, k: shapes.append((a[0] if a else k["hidden_states"]).shape), with_kwargs=True
    )
    with torch.no_grad():
        encode(model, inputs, modality)
    hook.remove()
    shape = shapes[0] if len(shapes[0]) == 3 else (1, *shapes[0])
    kwargs = {k: inputs[k] for k in ARGUMENTS[modality] if k in inputs}
    return FeatureCall(modality, kwargs, None, tuple(shape[:2])), shapes[0]


def bumped(out, bump, shape):
    hidden = out[0] if isinstance(out, tuple) else out
    hidden = hidden + (bump * torch.arange(shape[-1])).view(*shape[:-1], shape[-1])
    return (hidden, *out[1:]) if isinstance(out, tuple) else hidden
