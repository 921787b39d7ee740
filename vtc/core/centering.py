"""Geometry of visual tokens without what all of them share, and how far each is from it (arXiv 2608.30263).

Projected tokens have a large common component: their cosines are nearly all positive, and a selection by cosines only
removes near duplicates. Directions from the mean spread the angles; the weight keeps what they forget, how unlike the
others a token is before the mean is taken away.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .diversity import unit_rows
from .select import require_finite

Standardize = Literal["auto", "on", "off"]
Normalize = Literal["auto", "minmax", "sigmoid"]
DOMINANT = 0.1
"""A channel with a larger share of all variance decides every angle: then channels are standardised."""
_CONSTANT = 1e-12  # of the largest variance: such channels are noise once they are divided by it
_EPS = 1e-6


def working_rows(x: Tensor, standardize: Standardize = "auto") -> tuple[Tensor, bool]:
    """Rows [N, D] in fp32 (fp64 stays), each channel divided by its deviation where one dominates; and whether it was.

    Parameters
    ----------
    x : Tensor [N, D]
    standardize : {"auto", "on", "off"}
        "auto": where the largest channel variance is more than a tenth of their sum.

    Raises
    ------
    ValueError
        ``x`` holds NaN or Inf.
    """
    require_finite(x, "The features of the visual tokens")
    x = x.detach() if x.dtype == torch.float64 else x.detach().float()
    if standardize == "off" or len(x) < 2:
        return x, False
    variance = (x - x.mean(0)).square().mean(0)
    if standardize == "auto" and not bool(variance.max() > DOMINANT * variance.sum()):
        return x, False
    return x / (variance + _EPS).sqrt() * (variance > _CONSTANT * variance.max()), True


def distinctiveness(rows: Tensor) -> Tensor:
    """Negative mean cosine of every row to all others, of rows as they are: fp64 [N], zeros for a single row.

    In closed form, ``(|u_i|^2 - N u_i . m) / (N - 1)`` with the mean m of the unit rows u: a difference of numbers near
    one, hence in double precision.
    """
    n = len(rows)
    if n < 2:
        return rows.new_zeros(n, dtype=torch.float64)
    unit = unit_rows(rows.double())
    return (unit.square().sum(1) - n * (unit @ unit.mean(0))) / (n - 1)


def soft_weight(distinct: Tensor, normalize: Literal["minmax", "sigmoid"]) -> Tensor:
    """Weights [N] in [0, 1] from :func:`distinctiveness`: linear between the least and the most, or a sigmoid."""
    if normalize == "minmax":
        low = distinct.min()
        return (distinct - low) / (distinct.max() - low + 1e-12)
    spread = distinct.std(correction=0)
    return torch.sigmoid((distinct - distinct.mean()) / (spread + 1e-12))
