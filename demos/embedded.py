"""The models and pictures that come with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

ASSETS = Path(__file__).parent / "assets"
PHOTO = ASSETS / "photo.jpg"
PHOTO_QUESTION = "What is on the table?"
SCENE_SEED, CHART_SEED, VIDEO_SEED = 49, 31, 3
"""A scene with objects and text, one with a chart, and a video; both models answer questions about them rightly."""
_NOTE = "A tiny model: it knows generated scenes of coloured shapes, short words, numbers and charts, no more."


@dataclass(frozen=True)
class Embedded:
    """An embedded model.

    Parameters
    ----------
    name, summary : str
    path : pathlib.Path
        Its folder.
    note : str
        What its answers are worth.
    videos : bool
        Whether it takes videos.
    """

    name: str
    summary: str
    path: Path
    note: str = _NOTE
    videos: bool = False


EMBEDDED: dict[str, Embedded] = {
    "tiny-llava": Embedded(
        "tiny-llava",
        "LLaVA of 3.8 M parameters, trained on generated scenes; 144 tokens per image",
        ASSETS / "tiny-llava",
    ),
    "tiny-qwen2_5-vl": Embedded(
        "tiny-qwen2_5-vl",
        "Qwen2.5-VL of 4.0 M parameters, trained on generated scenes and videos; 16 to 400 tokens per image",
        ASSETS / "tiny-qwen2_5-vl",
        videos=True,
    ),
}
"""Embedded models by the name ``vtc run --model`` takes."""


def load_embedded(name: str) -> tuple[Any, Any]:
    """Model (eval mode, float32, CPU) and processor of an embedded model.

    Raises
    ------
    KeyError
        No such model; see :data:`EMBEDDED`.
    ImportError
        torchvision is missing, which the video processor of tiny-qwen2_5-vl needs.
    """
    entry = EMBEDDED[name]
    if entry.videos:
        from vtc.compat import require_torchvision

        require_torchvision()
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vtc.pretrained import from_pretrained

    model = from_pretrained(AutoModelForImageTextToText, entry.path, dtype=torch.float32)
    return model.eval(), from_pretrained(AutoProcessor, entry.path)


def sample(name: str, family: str = "attribute") -> tuple[Image, str, str | None]:
    """Picture, question and known answer (None: unknown) that suit a model.

    Parameters
    ----------
    name : str
        A name of :data:`EMBEDDED`; any other model gets the photograph.
    family : str
        Family of the question about a generated scene, see :data:`vtc.eval.scenes.IMAGE_FAMILIES`.
    """
    if name in EMBEDDED:
        from vtc.eval.scenes import make_scene, scene_questions

        scene = make_scene(CHART_SEED if family == "chart" else SCENE_SEED)
        question = next(q for q in scene_questions(scene, 0) if q.family == family)
        return scene.image, question.text, question.answer
    from vtc.media.pictures import bundled

    return bundled(PHOTO), PHOTO_QUESTION, None


def sample_video(family: str = "video-order") -> tuple[tuple[Image, ...], str, str]:
    """Frames of a generated video, a question of one of the families about videos, and its answer."""
    import random

    from vtc.eval.scenes.video import make_video
    from vtc.eval.scenes.video_questions import VIDEO_MAKERS

    video = make_video(VIDEO_SEED)
    question = VIDEO_MAKERS[family](video, random.Random(0))
    if question is None:
        raise ValueError(f"The bundled video answers no question of the family {family!r}.")
    return video.frames, question.text, question.answer
