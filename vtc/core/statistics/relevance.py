"""How much text and visual tokens of a prompt look at each other (ToDRE, stage 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from .attention import AttentionCall, column_sums


def mean_mass(call: AttentionCall, rows: Tensor, targets: Tensor) -> Tensor:
    """Attention that chosen queries pay to chosen keys, mean over heads and queries: ``[B]``, NaN without queries.

    Parameters
    ----------
    rows : BoolTensor [B, Q]
    targets : BoolTensor [B, K]
    """
    mass = (column_sums(call, rows.to(torch.float32)) * targets).sum(1)
    return mass / rows.sum(1)


def relevance(call: AttentionCall, text: Tensor, visual: Tensor, past: int = 0) -> Tensor:
    """Mean attention of text rows to visual tokens and of visual rows to text (ToDRE, stage 2): ``[B, 2]``.

    Parameters
    ----------
    text, visual : BoolTensor [B, Q]
        Kinds of the queries; they are the keys ``past .. past + Q``.

    Notes
    -----
    Decoders are causal: the second number is exactly 0 unless some text stands before a visual token, and only then are
    the rows of the visual tokens computed.
    """
    behind = call.k.shape[2] - past - text.shape[1]
    pad = (past, behind)
    to_visual = mean_mass(call, text, torch.nn.functional.pad(visual, pad))
    later = visual & (text.long().cumsum(1) > 0)
    if not bool(later.any()):  # nobody sees what comes later
        return torch.stack([to_visual, torch.zeros_like(to_visual)], 1)
    to_text = mean_mass(call, visual, torch.nn.functional.pad(text, pad))
    return torch.stack([to_visual, to_text], 1)
