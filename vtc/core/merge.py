"""Merging operators for one image: who merges into whom, and weighted means of groups of rows."""

from __future__ import annotations

from torch import Tensor

from vtc import kernels

from .select import require_finite


def assign_nearest(rows: Tensor, targets: Tensor) -> Tensor:
    """Index of the target with the largest cosine to each row; ties go to the lower target.

    Parameters
    ----------
    rows : Tensor [M, D]
        Unit rows, see :func:`vtc.core.diversity.unit_rows`.
    targets : Tensor [K, D]
        Unit rows, K >= 1.

    Returns
    -------
    LongTensor [M]
    """
    return kernels.assign_nearest(rows[None], targets[None], normalized=True)[0]


def grouped_mean(x: Tensor, groups: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weighted mean of the rows of every group.

    Parameters
    ----------
    x : Tensor [N, D]
    groups : LongTensor [N]
        Group of each row, -1 = in none.
    weights : Tensor [N]
        Weights; a group whose weights sum to at most 1e-12 takes the plain mean.
    count : int
        Number of groups K.

    Returns
    -------
    Tensor [K, D], dtype of ``x``

    Raises
    ------
    ValueError
        ``x`` holds NaN or Inf, which would spread over a group.
    """
    # the operator itself lets NaN through
    require_finite(x, "The features of the visual tokens")
    return kernels.group_means(x[None], groups[None], weights[None], count).values[0]


def group_shares(groups: Tensor, weights: Tensor, count: int) -> Tensor:
    """Normalise weights inside each group: ``[N]`` fp32 (fp64 stays), 1 per group in sum, 0 where ``groups`` is -1."""
    return kernels.group_shares(groups[None], weights[None], count)[0]
