"""``vtc eval``: benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtc.files import file_to_write

from . import values
from .output import cell, print_json, print_table

if TYPE_CHECKING:
    from vtc.eval.quality import Row

METHODS_HELP = (
    "Names with commas; `none` is the unpatched model, `blank` the same without the pictures. "
    "Options follow colons: vtc-cls:start_layer=1."
)
KEEP_HELP = "Strengths with commas: shares, tokens per image, or `default` for the method's own."
_UNPATCHED = ("none", "blank")
_Plan = list[tuple[str, "int | float | None", dict[str, Any]]]

app = typer.Typer(help="Benchmarks.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Benchmarks."""


@app.command("quality")
def quality(
    model: Annotated[str, typer.Option(help="Embedded name, folder or Hub id.")] = "tiny-llava",
    methods: Annotated[str, typer.Option(help=METHODS_HELP)] = "none,random,vtc-cls",
    keep: Annotated[str, typer.Option(help=KEEP_HELP)] = "0.25",
    limit: Annotated[
        int, typer.Option(min=1, max=values.MOST, help="Number of questions in all; families take turns.")
    ] = 300,
    seed: Annotated[int, typer.Option(min=0, max=values.MOST, help="Which set of questions.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=values.MOST, help="Questions per batch.")] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for quality.json, .csv, .md and .png.")] = None,
) -> None:
    """Exact answers on generated scenes, per method, strength and family of questions."""
    todo = plan(methods, keep)
    results = None if out is None else file_to_write(out / "quality.json", "results")

    from vtc.eval.quality import Benchmark
    from vtc.eval.quality.report import write_all

    from .loading import load

    loaded = load(model, device)
    bench = Benchmark(loaded.model, loaded.processor, limit, seed, batch=batch, model_name=loaded.name)
    rows: list[Row] = []
    for method, strength, given in todo:
        rows += bench.run(method, strength, given)
    data = [row.to_dict() for row in rows]
    if out is not None and results is not None:
        write_all(rows, out)
        results.write_text(json.dumps(data, indent=2))
    if as_json:
        print_json(data)
    else:
        _show(data, f"{loaded.name}: {limit} questions, seed {seed}; exact answers in %")


def plan(methods: str, keep: str) -> _Plan:
    """Every method at every strength, what needs no method once. Bad names and values are refused here."""
    strengths = [_strength(text.strip()) for text in keep.split(",") if text.strip()]
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names or not strengths:
        raise ValueError("Nothing to do: pass at least one method and one keep.")
    found: _Plan = []
    for spec in names:
        name, *pairs = spec.split(":")
        if name in _UNPATCHED:
            found.append((name, None, {}))
            continue
        options = values.parse_options(pairs, name)
        values.check_method(name, strengths[0], options)
        found += [(name, strength, options) for strength in strengths]
    return found


def _strength(text: str) -> int | float | None:
    return None if text == "default" else values.parse_keep(text)


def _show(data: list[dict[str, Any]], title: str) -> None:
    """One line per method and strength, one column per family."""
    families = list(dict.fromkeys(row["family"] for row in data))
    lines: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in data:
        options = " ".join(f"{k}={v}" for k, v in row["options"].items())
        line = lines.setdefault((row["method"], options, cell(row["keep"])), {"retained": 100 * row["retained"]})
        line[row["family"]] = f"{100 * row['accuracy']:.1f}"
    table = [
        (*key, *(line.get(family) for family in families), f"{line['retained']:.1f}") for key, line in lines.items()
    ]
    print_table(["method", "options", "keep", *families, "tokens %"], table, title)
