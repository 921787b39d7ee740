"""What commands print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer

_EXAMPLES = (
    ("vtc run", "a bundled scene and model, with and without compression"),
    ('vtc run --image cat.jpg --question "What is this?" --model llava-hf/llava-1.5-7b-hf --keep 0.1', ""),
    ("vtc run --model tiny-qwen2_5-vl --method pool --keep 64", "dynamic resolution, random weights"),
    ("vtc viz --methods vtc-cls,todre,pool --keep 0.25", "a picture of what several methods keep"),
    ("vtc demo", "the same in a browser"),
    ("vtc methods", "what there is to choose from"),
    ("vtc inspect MODEL", "which methods work on a model, and why others do not"),
    ("vtc eval quality --methods none,random,vtc-cls --keep 0.25,8", "exact answers on generated scenes"),
    ("vtc eval run --methods none,vtc-cls --keep 0.25 --limit 20", "the same through lmms-eval: scores, tokens, times"),
    ("vtc doctor", "versions and device"),
    ("vtc doctor --prove", "proof that vtc is right with them"),
)

_PLAIN_WIDTH = 132
"""Columns where nobody tells: files and pipes."""


def print_banner() -> None:
    """Print what this is and how to begin."""
    typer.echo("vtc - cut the visual tokens of vision-language models\n\nExamples:")
    for command, comment in _EXAMPLES:
        typer.echo(f"  {command}" + (f"   # {comment}" if comment else ""))
    typer.echo("\nAll commands: vtc --help")


def print_json(data: Any) -> None:
    """Print pure JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table; cells that are not text go through :func:`cell`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    console = Console()
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(table)


def cell(value: object) -> str:
    """Text of a table cell: floats with three digits, None as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}"
    return str(value)
