"""VFlowOpt, stage 1, with plain loops in float64."""

import numpy as np


def importance(attention, t):
    """Importance of one image from maps [H, N, N]."""
    mean = np.asarray(attention, dtype=np.float64).mean(0)
    received = mean.mean(0)
    chosen = [j for j in range(len(mean)) if received[j] > t * received.mean()] or [int(np.argmax(received))]
    return sum(mean[k] for k in chosen) / len(chosen)


def stage1(features, importance, newline, place, drop, reserve, side):
    """Kept indices and their rows; ``place`` = (region, row, column) per token."""
    x, weight = np.asarray(features, dtype=np.float64), np.asarray(importance, dtype=np.float64)
    order = sorted((i for i in range(len(x)) if not newline[i]), key=lambda i: (weight[i], i))
    low = order[: drop + reserve]
    rows = {i: x[i] for i in range(len(x)) if i not in low}
    cells = {}
    for i in sorted(low):
        region, r, c = place[i]
        cells.setdefault((region, int(r // side), int(c // side)), []).append(i)
    for cell in cells.values():
        slot = max(cell, key=lambda i: (weight[i], -i))
        rows[slot] = sum(weight[i] * x[i] for i in cell) / sum(weight[i] for i in cell)
    kept = sorted(rows)
    return kept, np.stack([rows[i] for i in kept])
