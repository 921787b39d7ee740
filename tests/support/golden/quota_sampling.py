"""Golden file of QuoTA's sampling of frames, and of the entities in a reply."""

from __future__ import annotations

import json

import numpy as np

from vtc.video import frame_count, frame_times, parse_entities, sample_indices, time_stamps


def sampling(arrays):
    for k in range(int(arrays["n_cases"])):
        total, fps, base, extra = arrays[f"in{k}"].tolist()
        duration = total / fps
        np.testing.assert_allclose(duration, arrays[f"dur{k}"], rtol=1e-12)
        count = frame_count(duration, int(base), int(extra), cap=False)
        indices = sample_indices(int(total), count)
        assert indices == arrays[f"idx{k}"].tolist()
        assert time_stamps(frame_times(indices, fps)) == str(arrays[f"time{k}"])
        assert frame_count(duration, int(base), int(extra)) == min(count, int(base + extra))
    for text, parsed in zip(arrays["text"], arrays["parsed"], strict=True):
        official = None if str(parsed) == "ERROR" else json.loads(str(parsed))
        assert parse_entities(str(text)) == (official or [])


KINDS = {
    "quota_sampling": sampling,
}
