"""HoloV: a budget for every band of an image by its attention, the strongest tokens in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ..core.budget import share_out
from ..core.diversity import unit_rows
from ..core.select import parts_of, require_finite, topk_indices, with_structure
from ..core.stage import ModelFacts, Need, Selection, View
from ._vision import attention_stat, whole_image_layers
from .base import check_range
from .scorer import BeforeLLM

GAIN, EPS = 1000.0, 1e-6


def bands_of(rows: Tensor, count: int) -> list[Tensor]:
    """Cut tokens into contiguous runs of equal length, the first ones longer by the remainder; empty ones left out."""
    size, extra = divmod(len(rows), count)
    return [band for band in rows.split([size + (i < extra) for i in range(count)]) if len(band)]


def band_budgets(total: int, weights: Tensor, sizes: list[int], leftover: str) -> list[int]:
    """Tokens per band: shares of the weights rounded down, one more for those of largest weight, none above its size.

    What full bands cannot take is lost ("drop", as the code, which fills up with zero rows), or goes to the others.
    """
    weights = weights.double().cpu()
    share = weights / (weights.sum() + EPS)
    counts = (share * total).floor().long()
    by_weight = share.sort(descending=True, stable=True).indices
    counts[by_weight[: total - int(counts.sum())]] += 1
    room = torch.tensor(sizes)
    over = int((counts - room).clamp_min(0).sum())
    counts = torch.minimum(counts, room)
    if over and leftover == "redistribute":
        counts = counts + share_out(over, share.clamp_min(1e-12), room - counts)
    return counts.tolist()


@dataclass(kw_only=True)
class HoloV(BeforeLLM):
    """Budget per band of the raster order by attention mass, the most attended tokens of each band.

    With the attention a of [CLS] (or what a patch receives) in the feature layer, P bands of n tokens, S the cosines
    in a band without the diagonal, mu_i and v_i the mean and variance of row i::

        score_i = 1000 a_i + alpha v_i mean(1000 a) / (mean(v) + 1e-6)
        w       = mean of score in each band, divided by their sum
        band gets floor(w K), the rest one each by falling w
        keep    its tokens of largest a ("official") or score ("score")

    The mean of the second term is alpha times that of the first, whatever the features: as released, bands are
    weighted by attention alone and ranked by attention alone. ``rank="score"`` is what the text describes.

    Parameters
    ----------
    keep : float or int
        Share of each image's patches, or tokens per image.
    bands : int or None
        P; None: ``1024 / 576 * N / K``, 16 for 64 of 576. They lie inside of crops and frames.
    rank : {"official", "score"}
        What ranks the tokens of a band.
    alpha : float
        Weight of the local diversity.
    leftover : {"redistribute", "drop"}
        What happens to the tokens that full bands cannot take.

    Notes
    -----
    Source: arXiv 2510.02912 and its code. Differences: raster order instead of attention order; no rows of zeros in the
    place of missing tokens; bands of one token are weighted like the others; crops share one budget; ties to the lower
    index.
    """

    name: ClassVar[str] = "holov"
    summary: ClassVar[str] = "a budget per band of the image by attention, the strongest tokens in each (baseline)"
    paper: ClassVar[str] = "2510.02912"
    bands: int | None = None
    rank: Literal["official", "score"] = "official"
    alpha: float = 0.09
    leftover: Literal["redistribute", "drop"] = "redistribute"

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number of bands >= 1", lambda v: v >= 1, "bands")
        check_range(self, "a weight >= 0", lambda v: v >= 0.0, "alpha")

    def needs(self, facts: ModelFacts) -> tuple[Need, ...]:
        """Attention of the layer that makes the features."""
        return (Need("vision", whole_image_layers(facts, self.name)[-1], attention_stat(facts)),)

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Share the budget over the bands of all crops."""
        attention, n, k = stats[0], len(view.patches), view.patch_budget
        if k >= n:
            return Selection(with_structure(view.patches, view.role, self.newlines), scores=attention)
        require_finite(attention[view.patches], "The attentions of the visual tokens")
        crops = parts_of(view.part, view.role)
        count = self.bands or max(1, int(1024 / 576 * n / k))
        each = max(1, round(count / len(crops)))
        bands = [band for rows in crops for band in bands_of(rows, each)]
        # the mean score of a band is a constant times its mean attention: only a ranking by it needs the cosines
        scores = [self.rate(view.features[band], attention[band]) for band in bands] if self.rank == "score" else []
        ranked = scores or [attention[band] for band in bands]
        weights = torch.stack([by.mean() for by in ranked])
        counts = band_budgets(k, weights, [len(band) for band in bands], self.leftover)
        kept = [band[topk_indices(by, c)] for band, by, c in zip(bands, ranked, counts, strict=True)]
        return Selection(with_structure(torch.cat(kept), view.role, self.newlines), scores=attention)

    def rate(self, features: Tensor, attention: Tensor) -> Tensor:
        """Attention and local diversity of the tokens [n] of a band."""
        strong = GAIN * attention
        n = len(strong)
        if n == 1:
            return strong
        unit = unit_rows(features).to(strong)
        cosines = (unit @ unit.T).fill_diagonal_(0)
        mean = cosines.sum(1, keepdim=True) / (n - 1)
        spread = (cosines - mean).square().sum(1) / (n - 1)
        return strong + self.alpha * spread * strong.mean() / (spread.mean() + EPS)
