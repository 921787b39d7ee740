"""Plain torch of :func:`vtc.kernels.assign_nearest`: all cosines of a block of rows, then the largest."""

from __future__ import annotations

import torch
from torch import Tensor

from .._ragged import accumulator

EPSILON = 1e-12
# rows compared with all targets at a time, so that at most CHUNK * K similarities exist
CHUNK = 4096


def assign_torch(rows: Tensor, targets: Tensor, valid: Tensor, kept: Tensor, normalized: bool) -> Tensor:
    """Target of every row [B, M], -1 beyond ``valid`` (int32 [B]) or where ``kept`` (int32 [B]) is zero."""
    kind = accumulator(rows, targets)
    found = torch.full(rows.shape[:2], -1, dtype=torch.long, device=rows.device)
    for b, (n, k) in enumerate(zip(valid.tolist(), kept.tolist(), strict=True)):
        if not k:
            continue
        anchors = targets[b, :k].to(kind)
        if not normalized:
            anchors = torch.nn.functional.normalize(anchors, dim=-1, eps=EPSILON)
        for start in range(0, n, CHUNK):
            block = rows[b, start : min(start + CHUNK, n)].to(kind)
            found[b, start : start + len(block)] = (block @ anchors.T).argmax(1)
    return found
