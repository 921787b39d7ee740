"""Greedy diversity selection: the next pick is the token least similar to the picks so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .._dispatch import launching_on, use_triton
from .._ragged import Counts, common_width, require_shape, row_counts
from .gram import greedy_torch

Objective = Literal["max_sum", "k_center"]


@dataclass(frozen=True)
class Picks:
    """Greedy selection of a batch.

    Attributes
    ----------
    order : LongTensor [B, K]
        Columns in the order they were picked, -1 after the last.
    value : Tensor [B, K], fp32 (fp64 stays)
        Similarity to the earlier picks at each pick (sum or maximum), 0 for the first and after the last.
    final : Tensor [B, N], fp32 (fp64 stays)
        The same number for every token at the end; inf for picked tokens and columns that are not valid.
    count : Tensor [B], int32
        Picks of each row.
    """

    order: Tensor
    value: Tensor
    final: Tensor
    count: Tensor


def greedy_diverse(
    x: Tensor,
    k: Counts,
    first: Tensor,
    n: Counts = None,
    *,
    objective: Objective = "max_sum",
    normalized: bool = False,
) -> Picks:
    """Pick ``k`` tokens of every row, each the least similar (cosine) to those before it.

    Parameters
    ----------
    x : Tensor [B, N, D]
        fp32, bf16 or fp16, accumulated in fp32, or fp64; any strides, finite. Zero rows have cosine 0 with everything.
    k : int, sequence of int or Tensor [B]
        Picks of each row, the first included; never more than there are. A tensor on a GPU is read back once.
    first : LongTensor [B]
        First pick of each row.
    n : int, sequence of int or Tensor [B], optional
        Valid columns of each row; default all.
    objective : {"max_sum", "k_center"}
        Least sum of similarities (ToDRE v2, arXiv 2505.18757) or least largest similarity (farthest-first traversal,
        DivPrune, arXiv 2503.02175).
    normalized : bool
        The rows have length one (or zero) already and are taken as they are.

    Returns
    -------
    Picks
        Equal similarities go to the lower column. Nothing carries gradients.

    Raises
    ------
    ValueError
        For shapes, counts or an objective that do not fit.
    TypeError
        For counts that are no integers.

    Notes
    -----
    The kernel holds no N x N matrix beyond 256 MiB (about 8,192 tokens of one image in fp32). It computes the
    similarity of a *panel* of the most promising candidates with all tokens on the matrix units, lets one program per
    row pick until the best token lies outside of the panel, and goes on with the next panel. The picks are those of
    the plain greedy rule, and so are those of the torch code, which works alike (:mod:`vtc.kernels.greedy.gram`).
    """
    require_shape(x, (None, None, None), "x")
    batch, columns = x.shape[:2]
    require_shape(first, (batch,), "first")
    if objective not in get_args(Objective):
        raise ValueError(f"objective={objective!r} is not known. Allowed: {', '.join(get_args(Objective))}.")
    valid = row_counts(n, batch, columns, x.device, "n")
    count = torch.minimum(row_counts(k, batch, columns, x.device, "k"), valid)
    width = common_width(count, k, columns)
    if use_triton(x, first) and width and batch:
        from .triton import greedy_triton as run
    else:
        run = greedy_torch
    with launching_on(x):
        return Picks(*run(x, count, valid, first, objective == "max_sum", width, normalized), count)
