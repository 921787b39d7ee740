"""The main job: ask with and without compression, about a scene and a photograph; leave pictures and reports.

Run it with ``python -m vtc.demos.main_job [OUT]``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtc.chat import ask
from vtc.cli.compare import ask_compressed, write_pictures
from vtc.cli.loading import Loaded, load
from vtc.cli.output import print_table
from vtc.core.budget import Keep

from .embedded import EMBEDDED, PHOTO, PHOTO_QUESTION, sample

if TYPE_CHECKING:
    from PIL.Image import Image

METHODS = ("vtc-cls", "random", "pool")
SCENE_KEEPS: tuple[Keep, ...] = (32, 16, 8)
PHOTO_KEEPS: tuple[Keep, ...] = (0.25, 0.1)
FAMILIES = ("attribute", "existence", "counting", "reading")


@dataclass(frozen=True)
class _Task:
    """One picture and question for one model."""

    name: str
    image: Image
    question: str
    known: str | None
    keeps: tuple[Keep, ...]


def _tasks(model: str) -> list[_Task]:
    from PIL import Image

    photo = _Task("photo", Image.open(PHOTO).convert("RGB"), PHOTO_QUESTION, None, PHOTO_KEEPS)
    if model != "tiny-llava":
        return [photo]
    scenes = [_Task(f"scene-{family}", *sample(model, family), SCENE_KEEPS) for family in FAMILIES]
    return [*scenes, photo]


def _run(loaded: Loaded, task: _Task, out: Path) -> list[dict[str, Any]]:
    """Answer without compression and with every method at every strength; one dict per answer."""
    plain = ask(loaded.model, loaded.processor, [task.image], task.question, 12)
    results: list[dict[str, Any]] = [{"method": "none", "keep": None, **plain.to_dict()}]
    for method in METHODS:
        for keep in task.keeps:
            cut = ask_compressed(
                loaded.model,
                loaded.processor,
                [task.image],
                task.question,
                method,
                keep,
                max_new_tokens=12,
                options=loaded.options_for(method, {}),
            )
            stem = f"{loaded.name}_{task.name}_{method}_{keep}"
            pictures = write_pictures(out, stem, loaded.processor, [task.image], cut.records)
            row = {
                "method": method,
                "keep": keep,
                **cut.answer.to_dict(),
                "before": cut.before,
                "after": cut.after,
            }
            row |= {"report": cut.report.to_dict(), "pictures": [path.name for path in pictures]}
            results.append(row)
    for row in results:
        row.setdefault("before", results[-1]["before"])
        row.setdefault("after", results[-1]["before"])
    return results


def _show(loaded: Loaded, task: _Task, results: list[dict[str, Any]]) -> None:
    title = f"{loaded.name}, {task.name}: {task.question}" + (f"   (right answer: {task.known})" if task.known else "")
    rows = [
        (
            r["method"],
            r["keep"],
            f"{r['after']} of {r['before']}",
            r["text"],
            r["first_token_ms"],
            r["total_ms"],
        )
        for r in results
    ]
    print_table(["method", "keep", "visual tokens", "answer", "first token ms", "total ms"], rows, title)


def main(out: Path) -> None:
    """Run everything and write pictures and one JSON report per model and picture into ``out``."""
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    for name in EMBEDDED:
        loaded = load(name)
        print(f"\n{name}: {loaded.note}")
        for task in _tasks(name):
            results = _run(loaded, task, out)
            report = {
                "model": name,
                "note": loaded.note,
                "question": task.question,
                "known_answer": task.known,
            }
            path = out / f"{name}_{task.name}.json"
            path.write_text(json.dumps({**report, "answers": results}, indent=2))
            _show(loaded, task, results)
    written = len(list(out.glob("*.png")))
    print(f"\n{written} pictures and the JSON reports are in {out}/ ({time.perf_counter() - started:.0f} s).")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
