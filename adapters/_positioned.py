"""Towers whose patches come with positions, padded to one number of patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vtc.core.layout import Unit

from .geometry import Encoder, FeatureCall, Geometry


@dataclass(frozen=True, repr=False)
class Positioned(Geometry):
    """Images of any size, padded to one number of patches that bring their positions; windows of k x k are averaged.

    Parameters
    ----------
    counted_by : str
        Argument with the frames of every video, which become its partitions; empty: every picture is an image.
    kernel : int or str
        Side k of the windows, or the field of the configuration that holds it.
    """

    counted_by: str = ""
    kernel: int | str = "vision_config.pooling_kernel_size"

    def _places(self, call: FeatureCall) -> Tensor:
        return call.argument(f"{call.modality}_position_ids")

    def _windows(self, encoder: Encoder, call: FeatureCall) -> list[Tensor]:
        """Patches of every pooled token, per picture: LongTensor [n, k * k] into its padded row."""
        k, windows = int(encoder.number(self.kernel)), []
        for place in self._places(call).cpu():
            patches = (place != -1).all(-1).nonzero()[:, 0]
            x, y = place[patches].unbind(-1)
            cell = (y // k) * ((int(x.max()) + 1) // k) + x // k
            windows.append(patches[cell.argsort(stable=True)].view(-1, k * k))
        return windows

    def units(self, encoder: Encoder, call: FeatureCall) -> list[Unit]:
        """Pooled lattices; the frames of a video are alike."""
        k = int(encoder.number(self.kernel))
        grids = [((y + 1) // k, (x + 1) // k) for x, y in self._places(call).amax(1).tolist()]
        frames = call.kwargs.get(self.counted_by) if self.counted_by else None
        units = []
        for count in [1] * len(grids) if frames is None else torch.as_tensor(frames).tolist():
            (h, w), grids = grids[0], grids[count:]
            units.append(Unit(call.modality, count * h * w, grid=(count, h, w)))
        return units

    def patch_index(self, encoder: Encoder, call: FeatureCall) -> Tensor:
        """Pooling windows, by position."""
        width = call.patches[1]
        return torch.cat([g + row * width for row, g in enumerate(self._windows(encoder, call))])
