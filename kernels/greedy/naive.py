"""Published form of :func:`vtc.kernels.greedy_diverse`, for comparison: no product code calls it."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_published(x: Tensor, k: int, first: int, additive: bool = True) -> Tensor:
    """Pick from the whole N x N similarity, reducing the block of all picks so far anew at every pick.

    ``x`` [N, D]; LongTensor [k] in the order of the picks. ``additive``: ToDRE v2 (arXiv 2505.18757), else DivPrune
    (arXiv 2503.02175).
    """
    unit = torch.nn.functional.normalize(x, dim=-1)
    similar = unit @ unit.mT
    picks = torch.tensor([first], device=x.device)
    for _ in range(k - 1):
        block = similar[picks]
        state = block.sum(0) if additive else block.amax(0)
        state[picks] = torch.inf
        picks = torch.cat([picks, state.argmin()[None]])
    return picks
