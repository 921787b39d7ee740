"""HiRED in float64 with plain loops: budgets of the paper, and the tokens each partition keeps."""

import math


def budgets(attention, grid, side, partitions, rate, alpha):
    """Equation 1 with spatial regions, floors, clamps, nothing handed out again."""
    n = side * side
    total = int(partitions * n * rate)
    base = min(int(total * alpha), n)
    rest = min(total - base, (partitions - 1) * n)
    mass = [0.0] * (grid[0] * grid[1])
    for j, a in enumerate(attention):
        r, c = divmod(j, side)
        mass[(r * grid[0] // side) * grid[1] + c * grid[1] // side] += float(a)
    return [base, *(min(math.floor(rest * m / sum(mass)), n) for m in mass)]


def strongest(scores, k):
    """The k largest, of equal ones the first."""
    return set(sorted(range(len(scores)), key=lambda j: (-float(scores[j]), j))[:k])
