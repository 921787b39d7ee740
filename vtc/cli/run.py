"""``vtc run``: one question, with and without compression."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtc.files import file_to_write
from vtc.media.limits import DRAWING_SIDE, LEAST_DRAWING_SIDE

from . import values
from .output import print_json, print_table

if TYPE_CHECKING:
    from PIL.Image import Image

    from .loading import Loaded

DEFAULT_MODEL = "tiny-llava"


@dataclass
class _Job:
    images: list[Image]
    names: list[str]
    question: str
    known: str | None = None


def run(
    model: Annotated[str, typer.Option(help="Embedded name, folder or Hub id.")] = DEFAULT_MODEL,
    image: Annotated[list[Path] | None, typer.Option(help="Image file; repeat for several.")] = None,
    question: Annotated[str | None, typer.Option(help="What to ask; bundled if left out.")] = None,
    method: Annotated[str, typer.Option(help="See `vtc methods`.")] = "auto",
    keep: Annotated[str | None, typer.Option(help="Share (0.25) or tokens per image (16).")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Hyperparameter, name=value; repeatable.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=values.MOST)] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for pictures and report.json.")] = Path("out"),
    side: Annotated[int, typer.Option(min=LEAST_DRAWING_SIDE, help="Longest side of pictures.")] = DRAWING_SIDE,
) -> None:
    """Answer a question with and without compression, and show what was kept.

    Without --model an embedded model is used; without --image and --question a bundled picture and question.
    """
    strength = None if keep is None else values.parse_keep(keep)
    options = values.parse_options(option or [], method)
    values.check_method(method, strength, options)
    job = _make_job(model, image or [], question)
    report = file_to_write(out / "report.json", "report")

    from vtc.chat import ask

    from .compare import ask_compressed, write_pictures
    from .loading import load

    loaded = load(model, device)
    plain = ask(loaded.model, loaded.processor, job.images, job.question, max_new_tokens)
    cut = ask_compressed(
        loaded.model, loaded.processor, job.images, job.question, method, strength, max_new_tokens, options
    )
    stem = f"{_file_stem(loaded.name)}_{cut.method}"
    pictures = write_pictures(out, stem, loaded.processor, job.images, cut.records, side)
    result = _result(loaded, job, plain, cut, options, pictures)
    report.write_text(json.dumps(result, indent=2))
    if as_json:
        print_json(result)
    else:
        _show(loaded, job, plain, cut, options, pictures)


def _make_job(model: str, paths: list[Path], question: str | None) -> _Job:
    """Read what the user gave, fill in what was left out."""
    from vtc.chat import check_question
    from vtc.demos.embedded import sample

    if question is not None:
        question = check_question(question)
    if paths and question is None:
        raise ValueError("An image without a question: pass --question as well.")
    images = [values.read_image(path) for path in paths]
    if images and question is not None:
        return _Job(images, [str(path) for path in paths], question)
    bundled, text, known = sample(model)
    return _Job([bundled], ["bundled"], question or text, known if question is None else None)


def _file_stem(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _result(
    loaded: Loaded, job: _Job, plain: Any, cut: Any, options: dict[str, Any], pictures: list[Path]
) -> dict[str, Any]:
    return {
        "model": loaded.name,
        "note": loaded.note,
        "images": job.names,
        "question": job.question,
        "known_answer": job.known,
        "method": cut.method,
        "reason": cut.reason,
        "keep": cut.keep,
        "options": options,
        "tokens": {"before": cut.before, "after": cut.after},
        "answers": {"without": plain.to_dict(), "with": cut.answer.to_dict()},
        "report": cut.report.to_dict(),
        "pictures": [str(path) for path in pictures],
    }


def _show(loaded: Loaded, job: _Job, plain: Any, cut: Any, options: dict[str, Any], pictures: list[Path]) -> None:
    typer.echo(f"Model:    {loaded.name}")
    if loaded.note:
        typer.echo(f"          {loaded.note}")
    typer.echo(f"Question: {job.question}" + (f"   (right answer: {job.known})" if job.known else ""))
    if cut.reason:
        typer.echo(f"Method:   {cut.method}: {cut.reason}")
    rows = [
        ("without", plain.text, cut.before, plain.first_token_ms, plain.total_ms),
        (
            ", ".join([cut.method, f"keep={cut.keep}", *(f"{k}={v}" for k, v in options.items())]),
            cut.answer.text,
            cut.after,
            cut.answer.first_token_ms,
            cut.answer.total_ms,
        ),
    ]
    print_table(["", "answer", "visual tokens", "first token ms", "total ms"], rows)
    typer.echo(str(cut.report))
    for path in pictures:
        typer.echo(f"Picture: {path}")
