"""GleanVID: frames by what is new in them, tokens that are typical of their place and outside of what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.budget import share_out
from ..core.select import require_finite, topk_indices, with_structure
from ..core.stage import Selection, View
from ..core.subspace import Span, leading_direction, residual_to_past
from .base import check_range
from .scorer import BeforeLLM

SIDE = 2
LOW, HIGH = 0.2, 0.6


def debiased(x: Tensor) -> Tensor:
    """Rows [N, D] without their leading direction around the mean, which is put back."""
    mean = x.mean(0)
    centred = x - mean
    direction = leading_direction(centred)
    return centred - (centred @ direction)[:, None] * direction + mean


def gini(values: Tensor) -> float:
    """Gini coefficient of non-negative values [T]: 0 for equal ones."""
    ordered, n = values.double().sort().values, len(values)
    total = float(ordered.sum())
    ranks = torch.arange(1, n + 1, dtype=torch.float64, device=values.device)
    return float(2 * (ranks * ordered).sum()) / (n * total) - (n + 1) / n if total > 0 else 0.0


def unit_range(x: Tensor) -> Tensor:
    """Bring values to [0, 1]; zeros where nothing varies."""
    low, high = x.min(), x.max()
    return torch.where(high > low, (x - low) / (high - low).clamp_min(1e-30), 0)


@dataclass(kw_only=True)
class GleanVID(BeforeLLM):
    """Budgets of frames by temporal novelty, tokens one frame after another by representativeness and residual.

    Frame t of T has the tokens ``x[t, n]``, N(n) is the 2 x 2 cell of place n; B tokens are to be kept::

        x_hat  = x without the leading direction v1 of all centred tokens, the mean put back
        z[t,n] = mean of x_hat[t, .] over N(n)
        r[t,n] = distance of z[t, n] to span{z[t', n], t' < t},  r[0, n] = |z[0, n]|
        R_t    = sum_n r[t, n];  s = R / sum R;  alpha = 0.6 - 0.4 Gini(R)
        k_t    = alpha B / T + (1 - alpha) B s_t,  by largest remainder, none above N
        frame by frame, Q = what was kept of the earlier ones:
            u = softplus(tau (cos(x, cell mean) - cos(x, frame mean))) / tau
            v = distance of x_hat to span Q
            keep the k_t largest  minmax(u) + minmax(v),  add their directions to Q

    Neither the question nor any attention is read. An image is a video of one frame.

    Parameters
    ----------
    keep : float or int
        Share of the patches of each video (or image), or tokens per video.
    history : int or None
        Earlier frames that novelty looks at; None: all. With 4 it is linear in the length.
    tau : float
        Sharpness of the comparison of cell and frame.

    Notes
    -----
    Source: arXiv 2609.37042; no code is published. Decided here: once the span has filled up (at most D directions),
    v is 0 and u decides alone; border cells of odd lattices are smaller; tokens that an earlier stage has dropped
    are missing from their cells; ties to the lower token and the earlier frame.
    """

    name: ClassVar[str] = "gleanvid"
    summary: ClassVar[str] = "frames by novelty, tokens outside the span of what is kept (baseline)"
    paper: ClassVar[str] = "2609.37042"
    history: int | None = None
    tau: float = 4.0

    def __post_init__(self) -> None:
        """Validate the hyperparameters."""
        super().__post_init__()
        check_range(self, "a number of frames >= 1", lambda v: v >= 1, "history")
        check_range(self, "a number >= 1e-3", lambda v: v >= 1e-3, "tau")

    def select(self, view: View, *stats: Tensor) -> Selection:
        """Share the budget over the frames, then go through them."""
        rows, k = view.patches, view.patch_budget
        if k >= len(rows):
            return Selection(with_structure(rows, view.role, self.newlines))
        require_finite(view.features[rows], "The features of the visual tokens")
        x = view.features[rows].detach()
        x = x if x.dtype == torch.float64 else x.float()
        frame, cell = places(view, rows)
        hat = debiased(x)
        pooled, slot = cell_means(hat, frame, cell)
        novelty = residual_to_past(pooled, self.history).flatten()[slot]
        counts = self.budgets(novelty, frame, k)
        score, kept = self.walk(x, hat, frame, cell, counts)
        scores = torch.full((view.n,), torch.nan, dtype=score.dtype, device=score.device)
        scores[rows] = score
        return Selection(with_structure(rows[kept], view.role, self.newlines), scores=scores)

    def budgets(self, novelty: Tensor, frame: Tensor, total: int) -> list[int]:
        """Tokens of every frame from the novelty [N] of its tokens."""
        sizes = torch.bincount(frame)
        new = torch.zeros(len(sizes), dtype=torch.float64, device=frame.device).index_add(0, frame, novelty.double())
        alpha = HIGH - (HIGH - LOW) * gini(new)
        share = new / new.sum() if float(new.sum()) > 0 else torch.full_like(new, 1 / len(new))
        return share_out(total, alpha / len(new) + (1 - alpha) * share, sizes).tolist()

    def walk(self, x: Tensor, hat: Tensor, frame: Tensor, cell: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
        """Score of every token [N] when its frame's turn came, and the kept ones, ascending."""
        local, slot = cell_means(x, frame, cell)
        near = F.cosine_similarity(x, local.flatten(0, 1)[slot], dim=1)
        span, score, kept = Span(hat), torch.zeros_like(near), []
        for t, count in enumerate(counts):
            mine = (frame == t).nonzero(as_tuple=True)[0]
            typical = near[mine] - F.cosine_similarity(x[mine], x[mine].mean(0, keepdim=True), dim=1)
            score[mine] = unit_range(F.softplus(self.tau * typical) / self.tau) + unit_range(span.rest(mine))
            chosen = mine[topk_indices(score[mine], count)]
            kept.append(chosen)
            if len(chosen) and t + 1 < len(counts):
                span.add(chosen, mine)
        return score, torch.cat(kept)


def places(view: View, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Frame and 2 x 2 cell of every patch, both numbered from 0; tiles of an image are its frames."""
    frame = view.part[rows].unique(return_inverse=True)[1]
    grids = view.units[0].filled().part_grids
    width = torch.tensor([grid[1] for grid in grids], device=rows.device)[view.part[rows]]
    y, x = view.cell[rows] // width, view.cell[rows] % width
    return frame, y // SIDE * (-(-int(width.max()) // SIDE)) + x // SIDE


def cell_means(x: Tensor, frame: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Means [T, C, D] of the tokens of every cell, 0 for empty ones; and the flat index of each token's cell."""
    frames, cells = int(frame.max()) + 1, int(cell.max()) + 1
    slot = frame * cells + cell
    sums = x.new_zeros(frames * cells, x.shape[1]).index_add_(0, slot, x)
    size = torch.bincount(slot, minlength=frames * cells).clamp_min(1)
    return (sums / size[:, None]).view(frames, cells, -1), slot
