"""The main job: bundled questions under every method, side by side; leaves sheets of what was kept, and reports.

Run it with ``python -m vtc.demos.main_job [OUT]``.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vtc
from vtc.chat import build_inputs, timed_answer
from vtc.cli.loading import Loaded, load
from vtc.cli.output import print_table
from vtc.cli.values import one_reason
from vtc.core.budget import Keep

from .app.media import video_inputs
from .embedded import EMBEDDED, sample, sample_video

if TYPE_CHECKING:
    from PIL.Image import Image

KEEPS: tuple[Keep, ...] = (0.25, 0.11)
FAMILIES = ("attribute", "existence", "counting", "spatial", "reading", "chart")
VIDEO_FAMILIES = ("video-order",)
LONGEST = 6
OPTIONS: dict[str, dict[str, Any]] = {"vla-pruner": {"warmup": "semantic"}, "quota": {"frame_scores": "uniform"}}
"""The first calls of a robot's episode keep everything otherwise, and nobody has rated the frames of the video."""


@dataclass(frozen=True)
class _Task:
    """A picture or video with a question and its answer."""

    family: str
    frames: tuple[Image, ...]
    question: str
    known: str | None

    @property
    def is_video(self) -> bool:
        return len(self.frames) > 1

    def inputs(self, loaded: Loaded) -> dict[str, Any]:
        if self.is_video:
            return video_inputs(loaded.processor, self.frames, self.question, loaded.model.device)
        return build_inputs(loaded.processor, [(self.frames, self.question)], loaded.model.device)

    def shown(self, loaded: Loaded) -> Any:
        """Picture as the model sees it; of a video one frame per temporal patch."""
        from vtc.viz import seen

        return list(self.frames[::2]) if self.is_video else seen(self.frames[0], loaded.processor)


def _tasks(model: str) -> list[_Task]:
    found = []
    for family in FAMILIES:
        image, question, known = sample(model, family)
        found.append(_Task(family, (image,), question, known))
    if EMBEDDED[model].videos:
        found += [_Task(family, *sample_video(family)) for family in VIDEO_FAMILIES]
    return found


def _row(method: str, keep: Keep | None, answer: Any, before: int, after: int) -> dict[str, Any]:
    return {"method": method, "keep": keep, **answer.to_dict(), "before": before, "after": after}


def _run(loaded: Loaded, task: _Task, out: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Answers without compression and under every method at every strength, and why others have none."""
    inputs = task.inputs(loaded)
    plain = timed_answer(loaded.model, loaded.processor, inputs, LONGEST)
    results: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    records: dict[Keep, dict[str, Any]] = {keep: {} for keep in KEEPS}
    for method in vtc.list_methods():
        for keep in KEEPS:
            try:
                options = OPTIONS.get(method, {})
                with (
                    warnings.catch_warnings(),
                    vtc.patched(loaded.model, method, keep=keep, processor=loaded.processor, **options) as handle,
                ):
                    warnings.filterwarnings("error", message=".* left whole")  # a row that is none
                    answer = timed_answer(loaded.model, loaded.processor, inputs, LONGEST)
                    assert handle.last is not None  # there is a picture in every prompt
                    record = handle.last.images[0]
            except (ValueError, TypeError, UserWarning) as error:
                refused[method] = one_reason(error)
                continue
            records[keep][method] = record
            results.append(_row(method, keep, answer, record.before, record.after))
    before = results[0]["before"]
    for keep, found in records.items():
        _write_sheets(out, f"{loaded.name}_{task.family}_{keep}", task.shown(loaded), found)
    return [_row("none", None, plain, before, before), *results], refused


def _write_sheets(out: Path, stem: str, shown: Any, records: dict[str, Any]) -> None:
    """Write one sheet of what every method kept, and one of the scores of those that rank."""
    from vtc.viz import compare, modes

    for mode in ("kept", "scores"):
        drawn = {name: record for name, record in records.items() if mode in modes(record)}
        if drawn:
            compare(shown, drawn, mode).save(out / f"{stem}_{mode}.png")


def _show(loaded: Loaded, task: _Task, results: list[dict[str, Any]], refused: dict[str, str]) -> None:
    title = f"{loaded.name}, {task.family}: {task.question}   (right answer: {task.known})"
    columns = ["method", "keep", "visual tokens", "answer", "right", "first token ms", "total ms"]
    rows = [
        (
            r["method"],
            r["keep"],
            f"{r['after']} of {r['before']}",
            r["text"],
            "yes" if r["exact"] else "no",
            r["first_token_ms"],
            r["total_ms"],
        )
        for r in results
    ]
    print_table(columns, rows, title)
    for method, reason in refused.items():
        print(f"  {method}: not here, {reason}")


def main(out: Path) -> None:
    """Run everything; write sheets and one JSON report per model and question into ``out``."""
    from vtc.eval.quality.answers import is_exact

    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    for name in EMBEDDED:
        loaded = load(name)
        print(f"\n{name}: {loaded.note}")
        for task in _tasks(name):
            results, refused = _run(loaded, task, out)
            for row in results:
                row["exact"] = is_exact(row["text"], task.known or "")
            report = {"model": name, "note": loaded.note, "question": task.question, "known_answer": task.known}
            path = out / f"{name}_{task.family}.json"
            path.write_text(json.dumps({**report, "answers": results, "refused": refused}, indent=2))
            _show(loaded, task, results, refused)
    written = len(list(out.glob("*.png")))
    print(f"\n{written} sheets and the JSON reports are in {out}/ ({time.perf_counter() - started:.0f} s).")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
