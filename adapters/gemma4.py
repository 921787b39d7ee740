"""Gemma 4: patches with positions, average pooling, inputs per decoder layer, shared keys and values."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from vtc.compat import GEMMA4
from vtc.core.layout import Unit

from .base import Adapter, FeatureCall

REASON = "later layers reuse the keys of earlier ones or take per-token inputs of their own"


class Gemma4Adapter(Adapter):
    """Images of any size, padded to one number of patches; frames of a video are partitions."""

    family: ClassVar[str] = "gemma4"
    model_types: ClassVar[tuple[str, ...]] = ("gemma4",)
    notes: ClassVar[str] = "images and video; small models before the language model only"
    since: ClassVar[str] = GEMMA4
    typical: ClassVar[dict[str, Any]] = {"no_cuts": REASON}
    prepared_masks: ClassVar[bool] = True

    def no_cuts(self, model: Any) -> str:
        """Small Gemma 4 models reuse keys of early layers and feed per-token inputs to every layer."""
        text = model.config.get_text_config()
        if text.num_kv_shared_layers or text.hidden_size_per_layer_input:
            return REASON
        return ""

    def groups(self, model: Any, call: FeatureCall) -> list[Tensor]:
        """Patches of every pooled token, per image or frame: LongTensor [n, k * k] into its padded row."""
        k = model.config.vision_config.pooling_kernel_size
        groups = []
        for place in call.kwargs[f"{call.modality}_position_ids"].cpu():
            patches = (place != -1).all(-1).nonzero()[:, 0]
            x, y = place[patches].unbind(-1)
            cell = (y // k) * ((int(x.max()) + 1) // k) + x // k
            groups.append(patches[cell.argsort(stable=True)].view(-1, k * k))
        return groups

    def _grids(self, model: Any, call: FeatureCall) -> list[tuple[int, int]]:
        k = model.config.vision_config.pooling_kernel_size
        last = call.kwargs[f"{call.modality}_position_ids"].amax(1).tolist()
        return [((y + 1) // k, (x + 1) // k) for x, y in last]

    def units(self, model: Any, call: FeatureCall) -> list[Unit]:
        """Pooled lattices."""
        grids = self._grids(model, call)
        frames = call.kwargs.get("num_frames_per_video") if call.modality == "video" else None
        counts = [1] * len(grids) if frames is None else torch.as_tensor(frames).tolist()
        units = []
        for count in counts:
            (h, w), grids = grids[0], grids[count:]
            units.append(Unit(call.modality, count * h * w, grid=(count, h, w)))
        return units

    def patch_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Pooling windows, by position."""
        assert call.shape is not None
        return torch.cat([g + row * call.shape[1] for row, g in enumerate(self.groups(model, call))])
