"""Pictures and videos: read uploads within limits, build a model's inputs, find the picture behind each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from vtc.viz import seen, upright

from .limits import FRAME_SIDE, FRAMES, MAX_PIXELS, MAX_SECONDS, MAX_SIDE

_VIDEO = {".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".gif"}


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
    """Read a file that somebody uploaded.

    Raises
    ------
    ValueError
        Neither a picture nor a video, a broken one, or one beyond the limits.
    """
    path = Path(path)
    if path.suffix.lower() in _VIDEO:
        return Media("video", tuple(read_video(path)), path.name)
    try:
        image: Image.Image = Image.open(path)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(
                f"'{path.name}' has {image.width} x {image.height} pixels; at most {MAX_PIXELS // 10**6} million are "
                "taken. Scale it down and upload it again."
            )
        image = upright(image)
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(
            f"'{path.name}' cannot be read as a picture: it is broken or of an unknown kind. Use PNG, JPEG or WebP, "
            "or MP4 or WebM for a video."
        ) from None
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return Media("image", (image,), path.name)


def read_video(path: str | Path, count: int = FRAMES) -> list[Image.Image]:
    """Read ``count`` frames at even distances; fewer when the video has fewer.

    Raises
    ------
    ImportError
        PyAV is missing.
    ValueError
        Not a video, a broken one, or one that is too long.
    """
    path = Path(path)
    try:
        import av
    except ImportError:
        raise ImportError("Videos need PyAV: pip install av.") from None
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            seconds = float(container.duration or 0) / av.time_base
            if seconds > MAX_SECONDS:
                raise ValueError(
                    f"'{path.name}' lasts {seconds:.0f} s; at most {MAX_SECONDS} s are taken. Cut it first."
                )
            frames = [_small(frame) for frame in _sample(container, stream, seconds, count)]
    except (OSError, IndexError, av.error.FFmpegError):
        frames = []
    if not frames:
        raise ValueError(f"'{path.name}' cannot be read as a video: it is broken or of an unknown kind.")
    return frames


def _sample(container: Any, stream: Any, seconds: float, count: int) -> list[Any]:
    """Decode once from the start, and keep the first frame at or after each of ``count`` even times."""
    stream.thread_type = "AUTO"
    found: list[Any] = []
    for number, frame in enumerate(container.decode(stream)):
        time = float(frame.time) if frame.time is not None else number / 25
        if time > MAX_SECONDS or len(found) == count:
            break
        if time >= len(found) * seconds / count:
            found.append(frame)
    return found


def _small(frame: Any) -> Image.Image:
    image = frame.to_image().convert("RGB")
    image.thumbnail((FRAME_SIDE, FRAME_SIDE))
    return image


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
