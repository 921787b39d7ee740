"""Pictures of what each method keeps of one scene, for its page: ``python -m vtc.eval.method_pictures``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

import vtc
from vtc.chat import build_inputs
from vtc.demos.embedded import load_embedded
from vtc.viz import overlay

from .quality.questions import family_items

KEEP = 0.25
OPTIONS: dict[str, dict[str, Any]] = {"quota": {"frame_scores": "uniform"}, "vla-pruner": {"warmup": "semantic"}}
COLOURS = 96  # of a palette: a picture takes a tenth of its bytes


def draw(folder: Path) -> list[Path]:
    """Write one picture per method: the scene, with what the embedded model's tokens leave dimmed."""
    model, processor = load_embedded("tiny-llava")
    scene = family_items("chart", 2)[1]
    inputs = build_inputs(processor, [(list(scene.frames), scene.question)], model.device)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in vtc.list_methods():
        with vtc.patched(model, name, keep=KEEP, processor=processor, **OPTIONS.get(name, {})) as handle:
            model.generate(**inputs, max_new_tokens=1)
            record: Any = handle.last
            picture = overlay(scene.frames[0], record.images[0])
        path = folder / f"{name}.png"
        picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS).save(path, optimize=True)
        written.append(path)
    return written


if __name__ == "__main__":
    draw(Path("docs/images/methods"))
