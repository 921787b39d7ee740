"""Pictures and videos: read uploads within limits, build a model's inputs, find the picture behind each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from vtc.media import Film, Limits, Spread, read_film, read_media
from vtc.viz import seen

from .limits import FRAME_SIDE, FRAMES, MAX_FRAME_PIXELS, MAX_MEMORY, MAX_PIXELS, MAX_SECONDS, MAX_SIDE, READ_SECONDS

_SPREAD = Spread(FRAMES, repeat=False, ends=False)


@dataclass(frozen=True, eq=False)  # gradio hashes what a State holds; pictures have no hash
class Media:
    """A picture, or frames of a video (RGB, upright).

    Parameters
    ----------
    kind : {"image", "video"}
    frames : tuple of PIL.Image.Image
        One for a picture.
    name : str
        File name without folder.
    """

    kind: Literal["image", "video"]
    frames: tuple[Image.Image, ...]
    name: str = "picture"

    def pictures(self, processor: Any, record: Any) -> list[Image.Image]:
        """Picture behind every partition of a record, as :func:`vtc.viz.overlay` takes them."""
        if self.kind == "image":
            return [seen(self.frames[0], processor)]
        count = len(record.unit.filled().part_grids)
        return [self.frames[min(i * len(self.frames) // count, len(self.frames) - 1)] for i in range(count)]


def read_upload(path: str | Path) -> Media:
    """Read a file that somebody uploaded: a picture, or a video (an animated picture is one).

    Raises
    ------
    ValueError
        Neither a picture nor a video, a broken one, or one beyond the limits.
    """
    found = read_media(path, _SPREAD, MAX_SIDE, _limits(MAX_PIXELS), _limits(MAX_FRAME_PIXELS))
    name = Path(path).name
    if isinstance(found, Film):
        return Media("video", tuple(_small(frame) for frame in found.frames), name)
    return Media("image", (found,), name)


def read_video(path: str | Path, count: int = FRAMES) -> list[Image.Image]:
    """Read ``count`` frames at even distances; fewer when the video has fewer.

    Raises
    ------
    ImportError
        PyAV is missing.
    ValueError
        Not a video, a broken one, or one that is too long.
    """
    return read_film(path, replace(_SPREAD, count=count), FRAME_SIDE, _limits(MAX_FRAME_PIXELS)).frames


def _limits(pixels: int) -> Limits:
    return Limits(pixels, memory=MAX_MEMORY, seconds=READ_SECONDS, length=MAX_SECONDS)


def _small(frame: Image.Image) -> Image.Image:
    frame.thumbnail((FRAME_SIDE, FRAME_SIDE))
    return frame


def media_inputs(processor: Any, media: Media, question: str, device: Any = "cpu") -> dict[str, Any]:
    """Build what ``model.generate(**inputs)`` takes for one question.

    Raises
    ------
    ValueError
        Empty question, or a video for a processor that takes none.
    """
    from vtc.chat import build_inputs

    if media.kind == "image":
        return build_inputs(processor, [(media.frames, question)], device)
    return video_inputs(processor, media.frames, question, device)


def video_inputs(processor: Any, frames: Sequence[Image.Image], question: str, device: Any = "cpu") -> dict[str, Any]:
    """Build the inputs of a question about a video, given as frames.

    Raises
    ------
    ValueError
        Empty question, or a processor that takes no video.
    """
    import numpy as np

    from vtc.chat import check_question

    if getattr(processor, "video_processor", None) is None:
        raise ValueError("This model takes pictures only. Choose another model for a video, such as tiny-qwen2_5-vl.")
    content = [{"type": "video"}, {"type": "text", "text": check_question(question)}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    size = frames[0].size
    stack = np.stack([np.asarray(f.resize(size)) for f in frames])
    inputs = processor(text=[text], videos=[stack], do_sample_frames=False, return_tensors="pt")
    return dict(inputs.to(device))
