"""VideoLLaMA3: SigLIP with 2-D positions, merge size per image, 1-D positions in the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ._grid import GridAdapter
from .base import EncodeRecord, FeatureCall


class VideoLlama3Adapter(GridAdapter):
    """Each image or video brings its own merge size."""

    family: ClassVar[str] = "video_llama_3"
    model_types: ClassVar[tuple[str, ...]] = ("video_llama_3",)
    notes: ClassVar[str] = "images and video, merge size per image"
    towers: ClassVar[tuple[str, ...]] = ("vision_model",)
    multimodal_rope: ClassVar[bool] = False

    def merges(self, model: Any, call: FeatureCall) -> list[int]:
        """Merge size of every unit."""
        return torch.as_tensor(call.kwargs[f"{call.modality}_merge_sizes"]).tolist()

    def scattered(self, record: EncodeRecord, inputs: Mapping[str, Any]) -> EncodeRecord:
        """The processor's own compression drops rows of videos that repeat the frame before."""
        mask = inputs.get("video_compression_mask") if record.modality == "video" else None
        return record if mask is None else record.subset(torch.as_tensor(mask).reshape(-1).bool().cpu())

    def patch_index(self, model: Any, call: FeatureCall) -> Tensor:
        """Consecutive merge groups; smaller groups repeat their patches up to the largest size of the call."""
        merges, start, rows = self.merges(model, call), 0, []
        widest = max(merges) ** 2
        for unit, m in zip(self.units(model, call), merges, strict=True):
            index = start + torch.arange(unit.length * m * m).view(-1, m * m)
            rows.append(index[:, torch.arange(widest) % (m * m)])
            start += index.numel()
        return torch.cat(rows)
