"""Selection operators the methods share. Indices come back in ascending order, ties go to the lower index."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from vtc.kernels import topk_select

from .budget import Keep, keep_count, split_evenly
from .layout import Role

Newlines = Literal["drop", "keep"]


def require_finite(x: Tensor, what: str) -> None:
    """Raise a ValueError when ``x`` holds NaN or Inf: a selection made of them would be an accident."""
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(
            f"{what} hold {bad} NaN or Inf values of {x.numel()}. Half-precision overflow in the "
            "vision tower is the usual cause: load the model in bfloat16 or float32."
        )


def first_best(scores: Tensor) -> Tensor:
    """Index (0-d) of the largest score, of equal ones the lowest, without a look at the device: NaN never wins."""
    place = torch.arange(len(scores), device=scores.device)
    best = torch.where(torch.isnan(scores), -torch.inf, scores)
    return torch.where(best == best.max(), place, len(scores)).min()


def topk_indices(scores: Tensor, k: int) -> Tensor:
    """Find the ``k`` largest scores, ascending; equal scores go to the lower index.

    Parameters
    ----------
    scores : Tensor [N]
        Any float dtype; compared in fp32 (fp64 stays).
    k : int
        ``k >= N`` keeps everything.

    Returns
    -------
    LongTensor [min(k, N)]

    Raises
    ------
    ValueError
        ``scores`` holds NaN or Inf and not everything is kept.
    """
    n = scores.shape[0]
    if k >= n:
        return torch.arange(n, device=scores.device)
    # the operator ranks NaN last; a method that ranks by NaN has failed, and says so
    require_finite(scores, "The scores of the visual tokens")
    return topk_select(scores[None], k).index[0]


def part_budgets(keep: Keep, sizes: list[int]) -> list[int]:
    """Tokens per partition: a share of each one, or a count split evenly, remainder first."""
    if isinstance(keep, int):
        return split_evenly(keep, sizes)
    return [keep_count(keep, n) for n in sizes]


def with_structure(kept: Tensor, role: Tensor, newlines: Newlines) -> Tensor:
    """Join kept patches with the rows that are no patches: the one newline policy of all methods.

    Parameters
    ----------
    kept : LongTensor [K]
        Kept patches, any order.
    role : LongTensor [N]
    newlines : {"drop", "keep"}
        Row separators, on top of the budget. When no patch is dropped they stay in any case: keeping
        everything must be an exact no-op. [CLS] rows (``vision_feature_select_strategy="full"``) always stay
        and never compete.

    Returns
    -------
    LongTensor, ascending
    """
    if len(kept) == int((role == Role.PATCH).sum()):
        return torch.arange(len(role), device=kept.device)
    stays = role == Role.CLASS
    if newlines == "keep":
        stays = stays | (role == Role.NEWLINE)
    extra = stays.nonzero(as_tuple=True)[0].to(kept.device)
    return torch.cat([kept, extra]).sort().values


def parts_of(part: Tensor, role: Tensor) -> list[Tensor]:
    """List the patches of every partition, in the order of the partition numbers."""
    patches = role == Role.PATCH
    return [((part == p) & patches).nonzero(as_tuple=True)[0] for p in part[patches].unique().tolist()]


def topk_by_part(scores: Tensor, part: Tensor, role: Tensor, keep: Keep, keep_newlines: bool = False) -> Tensor:
    """Top-k inside every partition (tile, frame) of an image.

    Parameters
    ----------
    scores : Tensor [N]
        NaN is allowed where ``role`` is not a patch.
    part, role : LongTensor [N]
    keep : float or int
        See :func:`part_budgets`; counts patches only.
    keep_newlines : bool
        Keep all newline rows, on top of the budget; see :func:`with_structure`.

    Returns
    -------
    LongTensor [K], ascending
    """
    groups = parts_of(part, role)
    budgets = part_budgets(keep, [len(g) for g in groups])
    kept = [g[topk_indices(scores[g], k)] for g, k in zip(groups, budgets, strict=True)]
    empty = torch.zeros(0, dtype=torch.long, device=scores.device)
    return with_structure(torch.cat([empty, *kept]), role, "keep" if keep_newlines else "drop")
