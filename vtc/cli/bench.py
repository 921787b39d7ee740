"""``vtc bench``: what things cost on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from . import values
from .output import print_json, print_table

app = typer.Typer(help="Measure costs on this machine.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Measure costs on this machine."""


@app.command("selectors")
def selectors(
    sizes: Annotated[str, typer.Option(help="Visual tokens N, with commas.")] = "576,2304,2880,16384",
    dims: Annotated[str, typer.Option(help="Feature widths, with commas.")] = "1024",
    keep: Annotated[str, typer.Option(help="Shares, with commas.")] = "0.1,0.25",
    repeats: Annotated[int, typer.Option(min=1, max=values.MOST, help="Timed calls after one warm-up.")] = 3,
    only: Annotated[str | None, typer.Option(help="Labels with commas; default: all.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Time and peak extra memory of every selector on random features, without a model."""
    counts = values.numbers(sizes, "sizes"), values.numbers(dims, "dims")
    shares = [float(values.parse_keep(text)) for text in keep.split(",")]

    from vtc.eval.selectors import run

    labels = None if only is None else [label.strip() for label in only.split(",")]
    rows = run(*counts, shares, repeats, labels, str(values.device(device)))
    if as_json:
        print_json(rows)
        return
    columns = ("selector", "n", "d", "keep", "kept", "ms", "extra_mib")
    threads = rows[0]["threads"] if rows else "-"
    title = f"Selectors on {device}, {threads} threads: median of {repeats}"
    print_table(columns, [[row[c] for c in columns] for row in rows], title)
