"""Greedy diversity selection: the next pick is the token least similar to the picks so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ._dispatch import launching_on, use_triton
from ._ragged import Counts, common_width, require_shape, row_counts

Objective = Literal["max_sum", "max_min"]
EPSILON = 1e-12


@dataclass(frozen=True)
class Picks:
    """Greedy selection of a batch.

    Attributes
    ----------
    order : LongTensor [B, W]
        Columns in the order they were picked, -1 after the last.
    value : Tensor [B, W], fp32
        Similarity to the earlier picks at each pick (sum or maximum), 0 for the first and after the last.
    count : Tensor [B], int32
        Picks of each row.
    """

    order: Tensor
    value: Tensor
    count: Tensor


def greedy_diverse(
    x: Tensor,
    k: Counts,
    first: Tensor,
    n: Counts = None,
    *,
    objective: Objective = "max_sum",
    candidates: Tensor | None = None,
    width: int | None = None,
) -> Picks:
    """Pick ``k`` tokens of every row, each the least similar (cosine) to those before it.

    Parameters
    ----------
    x : Tensor [B, N, D]
        fp32, bf16 or fp16, any strides, finite; lengths clamped at 1e-12 and everything accumulated in fp32.
    k : int, sequence of int or Tensor [B]
        Picks of each row, the first included; never more than there are candidates.
    first : LongTensor [B]
        First pick of each row. It need not be a candidate.
    n : int, sequence of int or Tensor [B], optional
        Valid columns of each row; default all.
    objective : {"max_sum", "max_min"}
        Least sum of similarities (ToDRE v2, arXiv 2505.18757) or least largest similarity (k-center, DivPrune).
    candidates : BoolTensor [B, N], optional
        Tokens that may be picked; default all.
    width : int, optional
        W of the outputs; see :func:`vtc.kernels.topk_select`.

    Returns
    -------
    Picks
        Equal similarities go to the lower column.

    Raises
    ------
    ValueError
        For shapes, counts or an objective that do not fit.

    Notes
    -----
    The kernel holds no N x N matrix beyond 256 MiB (about 8,192 tokens of one image in fp32). It computes the
    similarity of a *panel* of the most promising candidates with all tokens on the matrix units, lets one program per
    row pick until the best token lies outside of the panel, and goes on with the next panel. The picks are those of
    the plain greedy rule.
    """
    require_shape(x, (None, None, None), "x")
    batch, columns = x.shape[:2]
    require_shape(first, (batch,), "first")
    if objective not in get_args(Objective):
        raise ValueError(f"objective={objective!r} is not known. Allowed: {', '.join(get_args(Objective))}.")
    if candidates is not None:
        require_shape(candidates, (batch, columns), "candidates")
    valid = row_counts(n, batch, columns, x.device, "n")
    free = torch.arange(columns, device=x.device) < valid[:, None]
    if candidates is not None:
        free = free & candidates
    # the first pick occupies no free place when it is no candidate
    places = free.sum(1) + ~free.gather(1, first[:, None])[:, 0] if columns else valid
    count = torch.minimum(row_counts(k, batch, columns, x.device, "k"), places).to(torch.int32)
    width = common_width(count, k, width, columns)
    if use_triton(x, first, candidates) and width and batch:
        from .greedy_triton import greedy_triton

        with launching_on(x):
            return Picks(*greedy_triton(x, count, first, free, objective == "max_sum", width))
    return greedy_torch(x, count, first, free, objective == "max_sum", width)


def greedy_torch(x: Tensor, count: Tensor, first: Tensor, free: Tensor, additive: bool, width: int) -> Picks:
    """Reference of :func:`greedy_diverse`: one product of all tokens with the newest pick per step.

    ``free`` bool [B, N] marks the candidates, ``additive`` chooses max_sum.
    """
    batch = x.shape[0]
    wide = x if x.dtype == torch.float64 else x.float()
    unit = torch.nn.functional.normalize(wide, dim=-1, eps=EPSILON)
    order = torch.full((batch, width), -1, dtype=torch.long, device=x.device)
    value = torch.zeros(batch, width, dtype=unit.dtype, device=x.device)
    state = torch.full(x.shape[:2], 0.0 if additive else -torch.inf, dtype=unit.dtype, device=x.device)
    state = state.masked_fill(~free, torch.inf)
    pick = first
    for step in range(width):
        live = step < count
        order[:, step] = torch.where(live, pick, -1)
        if step:
            value[:, step] = torch.where(live, state.gather(1, pick[:, None])[:, 0], 0)
        anchor = unit.gather(1, pick[:, None, None].expand(-1, 1, x.shape[2]))
        similar = (unit @ anchor.mT)[..., 0]
        state = state + similar if additive else torch.maximum(state, similar)
        state.scatter_(1, pick[:, None], torch.inf)
        pick = _first_minimum(state)
    return Picks(order, value.float(), count)


def _first_minimum(x: Tensor) -> Tensor:
    """Column of the least value of every row; torch.argmin does not promise the lower column of a tie on a GPU."""
    column = torch.arange(x.shape[1], device=x.device)
    return torch.where(x == x.amin(1, keepdim=True), column, x.shape[1] - 1).amin(1)
