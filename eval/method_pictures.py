"""Pictures of what each method keeps of one scene, for its page: ``python -m vtc.eval.method_pictures``."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from PIL import Image

import vtc
from vtc.cards import card
from vtc.chat import build_inputs
from vtc.demos.embedded import load_embedded
from vtc.viz import overlay

from .quality.answers import video_inputs
from .quality.questions import family_items
from .scenes.video_questions import VIDEO_FAMILIES

KEEP = 0.25
OPTIONS: dict[str, dict[str, Any]] = {"quota": {"frame_scores": "uniform"}, "vla-pruner": {"warmup": "semantic"}}
COLOURS = 96  # of a palette: a picture takes a tenth of its bytes


def draw(folder: Path) -> list[Path]:
    """Write one picture per method: a scene, or the frames of a film, with what the tokens leave dimmed."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in vtc.list_methods():
        model, frames, inputs = _film() if "videos only" in card(name).reads else _picture()
        with vtc.patched(model, name, keep=KEEP, **OPTIONS.get(name, {})) as handle:
            model.generate(**inputs, max_new_tokens=1)
            record: Any = handle.last
            picture = overlay(frames if len(frames) > 1 else frames[0], record.images[0])
        path = folder / f"{name}.png"
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS).save(path, optimize=True)
        written.append(path)
    return written


@functools.cache
def _picture() -> tuple[Any, list[Image.Image], dict[str, Any]]:
    model, processor = load_embedded("tiny-llava")
    scene = family_items("chart", 2)[1]
    frames = list(scene.frames)
    return model, frames, build_inputs(processor, [(frames, scene.question)], model.device)


@functools.cache
def _film() -> tuple[Any, list[Image.Image], dict[str, Any]]:
    model, processor = load_embedded("tiny-qwen2_5-vl")
    film = family_items(VIDEO_FAMILIES[0], 1)[0]
    return model, list(film.frames), video_inputs(processor, [film], model.device)


if __name__ == "__main__":
    draw(Path("docs/images/methods"))
