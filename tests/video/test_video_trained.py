"""QuoTA on the embedded video model, which can say whether something is there."""

from __future__ import annotations

import torch

import vtc
from vtc.demos.app.media import video_inputs
from vtc.demos.embedded import load_embedded
from vtc.eval.scenes.video import FRAMES, make_video
from vtc.video import SelfScorer

CLIPS = 100


def clips():
    """Videos with an object that is not always there: its name, and the temporal patches that show it."""
    seed = 0
    while True:
        video = make_video(seed)
        seed += 1
        for track in [t for t in video.tracks if t.role in ("appear", "vanish")][:1]:
            shown = [any(track.at(i) is not None for i in (2 * k, 2 * k + 1)) for k in range(FRAMES // 2)]
            if not all(shown):
                yield video, track.name, shown


def test_frames_that_show_what_is_asked_for_get_most_tokens():
    model, processor = load_embedded("tiny-qwen2_5-vl")
    right, stream = 0, clips()
    for _ in range(CLIPS):
        video, name, shown = next(stream)
        scorer = SelfScorer(
            decouple=lambda _, name=name: [name],
            wording=lambda _, entities: f"is there a {entities[0]} ?",
            answers=("yes", "no"),
        )
        inputs = video_inputs(processor, video.frames, f"in which frame did the {name} appear ?")
        with vtc.patched(model, "quota", keep=0.5, scorer=scorer, processor=processor) as handle, torch.no_grad():
            model(**inputs)
            (record,) = handle.last.images
        per_frame = torch.bincount(torch.as_tensor(record.entered) // 25, minlength=4)
        right += shown[int(per_frame.argmax())]
        assert len(record.entered) <= 50
    assert right >= 0.9 * CLIPS
