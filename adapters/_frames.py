"""Videos whose frames are square crops: every frame is a partition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtc.core.layout import Role, Unit
from vtc.core.stage import Need

from ._merged import crop_groups
from .geometry import Encoder, FeatureCall, FrameSeam, Geometry


@dataclass(frozen=True, repr=False)
class ClassFrames(Geometry):
    """Every frame of a video keeps its [CLS] row before its patches."""

    def keeps_class(self, encoder: Encoder, call: FeatureCall) -> bool:
        """Always."""
        return True

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Frames of [CLS] and patches."""
        videos, frames = call.pixels.shape[:2]
        length = self.lengths(encoder, call)[0]
        side = round((length - 1) ** 0.5)
        part = torch.arange(frames).repeat_interleave(length)
        cell = torch.arange(-1, length - 1).repeat(frames)
        role = torch.where(cell < 0, int(Role.CLASS), int(Role.PATCH))
        return [Unit(call.modality, len(part), None, part, cell, role, ((side, side),) * frames) for _ in range(videos)]

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """All rows of the tower."""
        crops, width = call.patches
        return torch.arange(crops * width)[:, None]


@dataclass(frozen=True, repr=False)
class PooledFrames(Geometry):
    """Windows of every frame of a video are averaged before the projector.

    Parameters
    ----------
    stride : int or str
        Side of the windows in patches, or the field of the configuration that holds it.
    mode : str
        Field that names the kind of pooling. Checkpoints that do not average are resampled behind their pooling.
    resampler, projector : str
        Modules of the base model that pool, and that run behind it.
    """

    stride: int | str = "spatial_pool_stride"
    mode: str = "spatial_pool_mode"
    resampler: str = "vision_resampler"
    projector: str = "multi_modal_projector"

    def seam(self, encoder: Encoder) -> FrameSeam | None:
        """Before the pooling, if that averages."""
        if getattr(encoder.config, self.mode) != "average":
            return None
        resampler, projector = (encoder.base.get_submodule(name) for name in (self.resampler, self.projector))
        return FrameSeam(resampler, "input", (encoder.side, encoder.side), "average", projector)

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Lattices of pooled frames."""
        videos, frames = call.pixels.shape[:2]
        side = encoder.side // int(encoder.number(self.stride))
        return [Unit(call.modality, frames * side * side, grid=(frames, side, side)) for _ in range(videos)]

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Pooling windows of every frame."""
        return crop_groups(encoder, call, int(encoder.number(self.stride)), self.cut(encoder, call))


@dataclass(frozen=True, repr=False)
class InterpolatedFrames(Geometry):
    """Every frame of a video is halved behind the projector by ``apply_pooling``; one newline ends the video.

    Parameters
    ----------
    projector : str
        Module of the base model whose output is pooled.
    """

    projector: str = "multi_modal_projector"

    def seam(self, encoder: Encoder) -> FrameSeam:
        """Behind the projector."""
        module, side = encoder.base.get_submodule(self.projector), encoder.side
        return FrameSeam(module, "output", (side, side), "bilinear", nn.Identity())

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Frames of pooled patches, one newline at the end."""
        videos, frames = call.pixels.shape[:2]
        side = -(-encoder.side // 2)
        n = frames * side * side
        end = torch.full((1,), frames - 1)
        part = torch.cat([torch.arange(frames).repeat_interleave(side * side), end])
        cell = torch.cat([torch.arange(side * side).repeat(frames), torch.full((1,), -1)])
        role = torch.zeros(n + 1, dtype=torch.long)
        role[-1] = Role.NEWLINE
        return [Unit(call.modality, n + 1, None, part, cell, role, ((side, side),) * frames) for _ in range(videos)]

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """2 x 2 patches per row; odd sides are interpolated and have no such index."""
        side = encoder.side
        if side % 2:
            raise ValueError(
                f"Family {encoder.family!r} interpolates frames of {side} x {side} patches, so a feature row mixes "
                "parts of several patches and patches cannot be dropped inside the encoder; use a method that acts "
                "after the projector."
            )
        videos = call.pixels.shape[0]
        index = crop_groups(encoder, call, 2, self.cut(encoder, call)).view(videos, -1, 4)
        return torch.cat([index, torch.full((videos, 1, 4), -1)], 1).reshape(-1, 4)

    def carry(self, encoder: Encoder, call: FeatureCall, need: Need, raw: list[Tensor]) -> Tensor:
        """Pooled as the features are, interpolation included."""
        videos, values = call.pixels.shape[0], self.patches_of(encoder, call, need, raw)
        rows = encoder.base.apply_pooling(values[..., None])[..., 0].reshape(videos, -1)
        return torch.nn.functional.pad(rows, (0, 1), value=torch.nan).reshape(-1)
