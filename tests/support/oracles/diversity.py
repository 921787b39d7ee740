"""Greedy diversity from a complete distance matrix, every candidate compared with every pick at each step."""

import numpy as np


def unit(x, centered=False):
    x = np.asarray(x, dtype=np.float64)
    x = x - x.mean(0) if centered else x
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def isolated(x):
    """First pick of DivPrune: the row whose nearest other row is farthest."""
    cosine = x @ x.T
    nearest = [max(cosine[i, j] for j in range(len(x)) if j != i) for i in range(len(x))]
    return int(np.argmin(nearest))


def greedy(x, k, first, objective):
    """Order of the picks, and the gap between the best and the second best candidate at the closest step."""
    cosine, picks, gap = x @ x.T, [first], np.inf
    while len(picks) < k:
        rest = [v for v in range(len(x)) if v not in picks]
        join = sum if objective == "max_sum" else max
        cost = [join(cosine[v, c] for c in picks) for v in rest]
        ranked = sorted(cost)
        if len(ranked) > 1:
            gap = min(gap, ranked[1] - ranked[0])
        picks.append(rest[int(np.argmin(cost))])
    return picks, gap
