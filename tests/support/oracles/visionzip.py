"""VisionZip with plain loops in float64."""

import numpy as np


def zipped(features, scores, dominant, contextual):
    """Kept indices, ascending, and their rows."""
    x = np.asarray(features, dtype=np.float64)
    ranked = sorted(range(len(x)), key=lambda j: (-float(scores[j]), j))
    best, rest = sorted(ranked[:dominant]), sorted(ranked[dominant:])
    targets = [rest[i * len(rest) // contextual] for i in range(contextual)]
    groups = {t: [x[t]] for t in targets}
    for j in rest:
        if j not in groups and targets:
            cosine = [x[j] @ x[t] / (np.linalg.norm(x[j]) * np.linalg.norm(x[t])) for t in targets]
            groups[targets[int(np.argmax(cosine))]].append(x[j])
    rows = {**{j: x[j] for j in best}, **{t: np.mean(g, 0) for t, g in groups.items()}}
    kept = sorted(rows)
    return kept, np.stack([rows[j] for j in kept])
