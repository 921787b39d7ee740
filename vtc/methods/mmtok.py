"""MMTok: tokens that cover the question's words and the image at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.coverage import Cover, Softmaxes, Stacked, greedy_cover
from ..core.diversity import unit_rows
from ..core.select import with_structure
from ..core.stage import Selection, View
from ._cen import candidate_sets
from .base import check_range
from .scorer import BeforeLLM


@dataclass(kw_only=True)
class MMTok(BeforeLLM):
    """Multimodal coverage: greedy facility location over two tables of softmaxes.

    With the projected tokens V (N rows) and the input embeddings T (m rows) of the text behind the last image::

        P = softmax_rows(cos(T, V) / text_temperature) / m         what covers the words
        Q = softmax_rows(cos(V, V) / vision_temperature) / N       what covers the image
        A = [P ; alpha Q],  best_j = max over picks of A[j, p]
        pick K times the token of largest  sum_j max(0, A[j, i] - best_j),  keep the picks in their original order

    Parameters
    ----------
    keep : float or int
        Share of every crop's patches, or tokens per image, split evenly over its crops and frames.
    alpha : float
        Weight of the image's own coverage; all words together weigh 1. 0: the words alone.
    text_temperature, vision_temperature : float
        Of the softmaxes; the code has 0.01 for text on Qwen-VL.
    joint : bool
        One set of all crops of an image and frames of a video, instead of one for each.

    Notes
    -----
    Source: arXiv 2508.18264 and its code, which covers the image by features of the encoder, before the projector;
    here by the projected ones, which every family has. It drops stop words of the question, found in a conversation
    template at batch 1; here all text behind the last image counts, the template's end with it. Differences: any
    batch, any number of images, each for itself; a prompt without such text is covered by Q alone; gains in double
    precision and kept up to date instead of being summed anew at every pick; fp32 cosines, ties to the lower index.
    """

    name: ClassVar[str] = "mmtok"
    summary: ClassVar[str] = "coverage of the question's words and of the image (baseline)"
    paper: ClassVar[str] = "2508.18264"
    needs_text: ClassVar[bool | Literal["question"]] = "question"
    alpha: float = 0.5
    text_temperature: float = 0.02
    vision_temperature: float = 0.2
    joint: bool = False
    scope: Literal["image", "row"] = "image"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a weight >= 0", lambda v: v >= 0.0, "alpha")
        check_range(self, "a number >= 1e-4", lambda v: v >= 1e-4, "text_temperature", "vision_temperature")

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Cover words and image, crop by crop."""
        if view.patch_budget >= len(view.patches):
            return Selection(with_structure(view.patches, view.role, self.newlines))
        scores = torch.full((view.n,), torch.nan, device=view.features.device)
        picks = []
        for rows, k in candidate_sets(view, self.joint, self.keep):
            scores[rows] = 0
            if k:
                order = rows[self.cover(view.features[rows], view.text, k).order]
                scores[order] = 2 - torch.arange(k, device=scores.device) / k
                picks.append(order)
        return Selection(with_structure(torch.cat(picks), view.role, self.newlines), scores=scores)

    def cover(self, features: Tensor, text: Tensor | None, k: int, similar: Tensor | None = None) -> Cover:
        """Pick ``k`` of the tokens [N, D].

        Parameters
        ----------
        features : Tensor [N, D]
        text : Tensor [m, D] or None
        k : int
        similar : Tensor [N, E], optional
            Rows by which the image covers itself, instead of ``features``.
        """
        unit = unit_rows(features)
        own = unit if similar is None else unit_rows(similar)
        image = Softmaxes(own, own, self.vision_temperature, self.alpha / len(own))
        if text is None or not len(text):
            return greedy_cover(image, k, _gain)
        words = Softmaxes(unit_rows(text.to(unit)), unit, self.text_temperature, 1 / len(text))
        return greedy_cover(Stacked(words, image), k, _gain)


def _gain(gain: Tensor, covered: Tensor, free: Tensor) -> Tensor:
    return gain
