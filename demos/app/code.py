"""The code that does what the page does, for the current settings."""

from __future__ import annotations

import json
import shlex
from typing import Any

from ..embedded import EMBEDDED
from .media import Media
from .settings import Settings


def python_code(chosen: Settings, media: Media, question: str) -> str:
    """Python that runs as it stands where the picture's file lies."""
    embedded, video = chosen.model in EMBEDDED, media.kind == "video"
    lines = ["import vtc"]
    lines += [] if embedded else ["from transformers import AutoModelForImageTextToText, AutoProcessor"]
    lines += ["from vtc.chat import decode, new_tokens"] if video else ["from vtc.chat import ask"]
    lines += ["from vtc.demos.app.media import read_video, video_inputs"] if video else []
    lines += ["from vtc.demos.embedded import load_embedded"] if embedded else []
    lines += ["", *_loading(chosen.model, embedded)]
    given = "".join(f", {name}={value!r}" for name, value in chosen.options.items())
    lines.append(f"handle = vtc.patch(model, {chosen.method!r}, keep={chosen.keep!r}, processor=processor{given})")
    lines += _asking(question, video)
    pictures = "frames[::2]" if video else "vtc.viz.seen(image, processor)"
    lines += ["print(handle.report())", f'vtc.viz.overlay({pictures}, handle.last.images[0]).save("kept.png")']
    return "\n".join([*lines, "vtc.unpatch(model)"]) + "\n"


def _loading(model: str, embedded: bool) -> list[str]:
    if embedded:
        return [f"model, processor = load_embedded({model!r})"]
    return [
        f"model = AutoModelForImageTextToText.from_pretrained({model!r}, dtype='auto', device_map='auto')",
        f"processor = AutoProcessor.from_pretrained({model!r})",
    ]


def _asking(question: str, video: bool) -> list[str]:
    if video:
        return [
            'frames = read_video("video.mp4")',
            f"inputs = video_inputs(processor, frames, {question!r}, model.device)",
            "print(decode(processor, new_tokens(model, inputs, 64))[0])",
        ]
    return [
        'image = vtc.media.read_picture("picture.png")',
        f"print(ask(model, processor, [image], {question!r}, 64).text)",
    ]


def command_code(chosen: Settings, question: str) -> str:
    """Run the same on the command line (pictures only)."""
    words = ["vtc", "run", "--model", chosen.model, "--image", "picture.png", "--question", question]
    words += ["--method", chosen.method, "--keep", repr(chosen.keep)]
    for name, value in chosen.options.items():
        words += ["--option", f"{name}={value}"]
    return shlex.join(words)


def config_code(chosen: Settings) -> str:
    """Configuration for ``vtc.load``."""
    from vtc.config import Config
    from vtc.methods import make_method

    body: dict[str, Any] = make_method(chosen.method, keep=chosen.keep, **chosen.options).to_dict()
    return json.dumps(Config([body]).to_dict(), indent=2)
