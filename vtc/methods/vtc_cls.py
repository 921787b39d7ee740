"""VTC-CLS: keep the patches the [CLS] token of the vision encoder attends to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.select import topk_by_part
from ..core.stage import ModelFacts, Need, Selection, View
from ._vision import attention_stat, whole_image_layers
from .scorer import BeforeLLM

Ensemble = Literal["sum", "max", "min"]


def ensemble_layers(facts: ModelFacts, start_layer: int | None) -> list[int]:
    """Vision layers whose attention is summed: ``start_layer`` to the layer that makes the features.

    ``start_layer=None`` is ``floor(2 L / 3)`` (16 of 24). Encoders without [CLS] use only blocks that attend
    to the whole image; when none lies in the range, the last one before it.

    Raises
    ------
    ValueError
        The range is empty or the model has no readable vision tower.
    """
    whole = whole_image_layers(facts, "vtc-cls")
    start = (2 * facts.vision_layers) // 3 if start_layer is None else start_layer
    start = min(start, facts.feature_layer) if start_layer is None else start
    if not 0 <= start <= facts.feature_layer:
        raise ValueError(
            f"start_layer={start} leaves no layer: the features come from layer "
            f"{facts.feature_layer} (0-based) of {facts.vision_layers}; choose "
            f"0 <= start_layer <= {facts.feature_layer}."
        )
    return [i for i in whole if i >= start] or whole[-1:]


def combine(rows: Tensor, ensemble: Ensemble) -> Tensor:
    """Ensemble of per-layer scores ``[K, N] -> [N]`` in fp32 (or fp64): sum, max or min over the layers."""
    if ensemble == "sum":
        return rows.sum(0)
    return rows.amax(0) if ensemble == "max" else rows.amin(0)


@dataclass(kw_only=True)
class VTCCLS(BeforeLLM):
    """Visual token compression by [CLS] attention, an ensemble of late encoder layers.

    Score of patch j: ``s[j] = sum_l mean_h A_l[h, CLS, j]`` over layers ``start_layer .. end``; softmax over
    all keys with [CLS], whose column is dropped afterwards. The best patches stay in raster order, nothing is
    merged, the question is not read. Tiles of one image and frames of a video are ranked each for itself.

    Parameters
    ----------
    keep : float or int
        Share of every tile, or tokens per image (split evenly over its tiles, remainder to the first).
    start_layer : int or None
        First encoder layer of the ensemble, 0-based; None: ``floor(2 L / 3)``.
    ensemble : {"sum", "max", "min"}
        How layers are joined; the code sums, and notes that min or max would be possible.

    Notes
    -----
    Source: arXiv 2412.05819 and its code (THU-MIG/VTC-CLS), which is followed where the paper is
    silent. Differences: any batch, any number of images, K = 1, scores in fp32 with ties to the lower index
    (the code ranks in fp16), and encoders without [CLS], which rank by mean received attention (VisionZip's
    practice) of full-attention blocks. Shares count the patches that survive the unpadding of a tile, so
    padding takes no budget. When no patch is dropped nothing is, newlines included.
    """

    name: ClassVar[str] = "vtc-cls"
    summary: ClassVar[str] = "attention of [CLS] over late encoder layers (received attention without [CLS])"
    paper: ClassVar[str] = "2412.05819"
    start_layer: int | None = None
    ensemble: Ensemble = "sum"

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of the layers of :func:`ensemble_layers`."""
        stat = attention_stat(facts)
        return tuple(Need("vision", layer, stat) for layer in ensemble_layers(facts, self.start_layer))

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Rank the patches of every tile by the ensemble score."""
        scores = combine(torch.stack(stats), self.ensemble)
        kept = topk_by_part(scores, view.part, view.role, self.keep, self.newlines == "keep")
        return Selection(keep=kept, scores=scores)
