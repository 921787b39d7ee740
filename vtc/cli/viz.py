"""``vtc viz``: a picture of the tokens that methods keep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtc.files import file_to_write
from vtc.media.limits import DRAWING_SIDE, LEAST_DRAWING_SIDE

from . import values
from .output import print_json
from .run import DEFAULT_MODEL

if TYPE_CHECKING:
    from PIL.Image import Image

_MODES_HELP = "kept, scores, groups or order."


def viz(
    image: Annotated[Path | None, typer.Argument(help="Image file; a bundled one if left out.")] = None,
    question: Annotated[str | None, typer.Option(help="For methods that read it; bundled if left out.")] = None,
    model: Annotated[str, typer.Option(help="Embedded name, folder or Hub id.")] = DEFAULT_MODEL,
    methods: Annotated[str, typer.Option(help="Names with commas, shown side by side; `all` for all.")] = "auto",
    keep: Annotated[str, typer.Option(help="Share (0.25) or tokens per image (16).")] = "0.25",
    mode: Annotated[str, typer.Option(help=_MODES_HELP)] = "kept",
    out: Annotated[Path, typer.Option(help="File to write; its ending chooses the format.")] = Path("out/viz.png"),
    side: Annotated[int, typer.Option(min=LEAST_DRAWING_SIDE, help="Its longest side in pixels.")] = DRAWING_SIDE,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Draw which tokens of an image one or several methods keep; nothing is generated."""
    from vtc.demos.embedded import sample
    from vtc.viz import MODES

    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is not allowed; choose one of {', '.join(MODES)}.")
    strength = values.parse_keep(keep)
    names = _names(methods, strength)
    file = _ready(out)
    bundled, text, _ = sample(model)
    picture = bundled if image is None else values.read_image(image)

    from .loading import load

    loaded = load(model, device)
    records, skipped = _records(loaded, names, strength, picture, question or text, mode, len(names) > 1)
    _draw(loaded, picture, records, mode, side).save(file)
    result = {
        "model": loaded.name,
        "mode": mode,
        "keep": strength,
        "methods": {name: {"before": r.before, "after": r.after} for name, r in records.items()},
        "skipped": skipped,
        "picture": str(out),
    }
    if as_json:
        print_json(result)
        return
    for name, record in records.items():
        typer.echo(f"{name}: {record.after} of {record.before} tokens")
    for name, reason in skipped.items():
        typer.echo(f"{name}: skipped, {reason}")
    typer.echo(f"Picture: {out}")


def _names(text: str, keep: int | float) -> list[str]:
    from vtc.methods import list_methods

    names = list_methods() if text.strip() == "all" else [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError("Nothing to draw: pass at least one method.")
    for name in names if text.strip() != "all" else ():
        values.check_method(name, keep, {})
    return names


def _records(
    loaded: Any, names: list[str], keep: int | float, picture: Image, question: str, mode: str, several: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """Record of every method, and why others were left out; a single method's error is raised."""
    from vtc.viz.fate import check_mode

    from .prefill import prefill

    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            record, used = prefill(loaded, name, keep, picture, question)
            check_mode(record, mode)
            found[used] = record
        except (ValueError, TypeError) as error:
            if not several:
                raise
            skipped[name] = values.one_reason(error)
    if not found:
        raise ValueError(f"None of these methods can be shown: {'; '.join(f'{n}: {r}' for n, r in skipped.items())}.")
    return found, skipped


def _draw(loaded: Any, picture: Image, records: dict[str, Any], mode: Any, side: int) -> Image:
    from vtc.viz import compare, overlay, seen

    shown = seen(picture, loaded.processor)
    if len(records) == 1:
        return overlay(shown, next(iter(records.values())), mode, side=side)
    return compare(shown, records, mode, side=side)


def _ready(path: Path) -> Path:
    from PIL import Image as pillow

    known = pillow.registered_extensions()
    if path.suffix.lower() not in known:
        raise ValueError(f"'{path.name}' does not end like a picture, such as .png, .jpg or .webp.")
    return file_to_write(path, "picture")
