"""The models and pictures that come with the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

ASSETS = Path(__file__).parent / "assets"
PHOTO = ASSETS / "photo.jpg"
PHOTO_QUESTION = "What is on the table?"
SCENE_SEED = 30
"""Scene with five objects and a number; uncompressed tiny-llava answers its four questions rightly."""
RANDOM_WEIGHTS = (
    "This model has random weights: its answers mean nothing, while the tokens, the times and the picture are real."
)


@dataclass(frozen=True)
class Embedded:
    """An embedded model.

    Parameters
    ----------
    name, summary : str
    path : pathlib.Path or None
        Its folder; None when it is built in code.
    note : str
        What its answers are worth.
    options : dict
        Hyperparameters that suit it better than a method's own defaults.
    scenes : str
        Kind of generated scenes it knows, see :data:`vtc.eval.test_sets.SCENES`.
    """

    name: str
    summary: str
    path: Path | None
    note: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    scenes: str = "varied"


EMBEDDED: dict[str, Embedded] = {
    "tiny-llava": Embedded(
        "tiny-llava",
        "LLaVA of 3.6 M parameters, trained on generated scenes; 64 tokens per image, 36 words",
        ASSETS / "tiny-llava",
        "A tiny model: it knows coloured shapes, counts and two-digit numbers on generated scenes, no more.",
        # it was trained with its image tokens always at positions 1 to 64 and is lost when they move
        {"positions": "keep"},
        scenes="board",
    ),
    "tiny-qwen2_5-vl": Embedded(
        "tiny-qwen2_5-vl",
        "Qwen2.5-VL architecture built in code with fixed random weights; dynamic resolution",
        None,
        RANDOM_WEIGHTS,
        scenes="board",
    ),
}
"""Embedded models by the name ``vtc run --model`` takes."""


def load_embedded(name: str) -> tuple[Any, Any]:
    """Model (eval mode, float32, CPU) and processor of an embedded model.

    Raises
    ------
    KeyError
        No such model; see :data:`EMBEDDED`.
    """
    entry = EMBEDDED[name]
    if entry.path is None:
        from .random_qwen import build

        return build()
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(entry.path, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(entry.path)


def sample(name: str, family: str = "attribute") -> tuple[Image, str, str | None]:
    """Picture, question and known answer (None: unknown) that suit a model.

    Parameters
    ----------
    name : str
        A name of :data:`EMBEDDED`; any other model gets the photograph.
    family : str
        Family of the question about a generated scene, see :data:`vtc.eval.scenes.FAMILIES`.
    """
    if name == "tiny-llava":
        from vtc.eval.scenes import make_scene, questions

        scene = make_scene(SCENE_SEED)
        question = next(q for q in questions(scene, 0) if q.family == family)
        return scene.image, question.text, question.answer
    from PIL import Image

    return Image.open(PHOTO).convert("RGB"), PHOTO_QUESTION, None
