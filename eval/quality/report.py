"""Tables and a picture of the quality benchmark: CSV, Markdown, and accuracy over FLOPs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .bench import BLANK, NO_METHOD, Row

FIELDS = tuple(name for name in Row.__dataclass_fields__ if name != "options")


def to_csv(rows: Sequence[Row]) -> str:
    """Every row with its intervals; options as ``name=value`` pairs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FIELDS, "options"])
    for row in rows:
        values: list[Any] = [getattr(row, name) for name in FIELDS]
        cells = [f"{v:.4f}" if isinstance(v, float) and n != "keep" else v for n, v in zip(FIELDS, values, strict=True)]
        writer.writerow([*cells, " ".join(f"{k}={v}" for k, v in row.options.items())])
    return text.getvalue()


def _label(row: Row) -> str:
    return row.method + "".join(f" {name}={value}" for name, value in row.options.items())


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _relative(row: Row) -> str:
    if row.relative is None or row.relative_low is None or row.relative_high is None:
        return ""
    return f"{100 * row.relative:.0f} ({100 * row.relative_low:.0f}-{100 * row.relative_high:.0f})"


def to_markdown(rows: Sequence[Row]) -> str:
    """One line per method and strength: accuracies with intervals, in %, and relative to the unpatched model."""
    families = list(dict.fromkeys(row.family for row in rows))
    lines: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        keep = "" if row.keep is None else str(row.keep)
        lines.setdefault((_label(row), keep), {})[row.family] = row
    head = ["method", "keep", *families, "of the unpatched", "tokens left", "mean over layers", "FLOPs"]
    table = [_line(head), _line(["---"] * len(head))]
    for (method, keep), line in lines.items():
        cells = [
            f"{100 * r.accuracy:.1f} ({100 * r.accuracy_low:.0f}-{100 * r.accuracy_high:.0f})"
            for r in (line[family] for family in families)
        ]
        last = line["all"]
        costs = [f"{100 * share:.1f}" for share in (last.retained, last.layers, last.flops)]
        table.append(_line([method, keep, *cells, _relative(last), *costs]))
    note = f"\nModel {rows[0].model}; {rows[0].n} questions in the first family; exact answers in %, 95 % intervals; "
    note += (
        "costs in % of the unpatched model: visual tokens behind the last cut, their mean over the decoder's layers, "
    )
    note += "and FLOPs of its prefill with the text.\n"
    return "\n".join(table) + "\n" + note


MARKERS = "osD"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw accuracy over the share of the decoder's prefill FLOPs, one panel per family, one line per method.

    Raises
    ------
    ImportError
        matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The plot needs matplotlib: install it with `pip install matplotlib`.") from error
    families = list(dict.fromkeys(row.family for row in rows))
    columns = min(4, len(families))
    height = -(-len(families) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.9 * height), layout="constrained")
    grid = figure.subplots(height, columns, squeeze=False).flatten()
    for axis, family in zip(grid, families, strict=False):
        _panel(axis, [row for row in rows if row.family == family], family)
    for axis in grid[len(families) :]:
        axis.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)


def _panel(axis: Any, rows: list[Row], title: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xscale("log")
    axis.set_ylim(0, 102)
    axis.grid(alpha=0.3)
    for method in dict.fromkeys(_label(row) for row in rows):
        mine = sorted((row for row in rows if _label(row) == method), key=lambda row: row.flops)
        values = [100 * row.accuracy for row in mine]
        if mine[0].method in (NO_METHOD, BLANK):
            axis.axhline(values[0], linestyle="--" if mine[0].method == NO_METHOD else ":", color="0.4", label=method)
            continue
        low = [100 * (row.accuracy - row.accuracy_low) for row in mine]
        high = [100 * (row.accuracy_high - row.accuracy) for row in mine]
        places = [100 * row.flops for row in mine]
        marker = MARKERS[len(axis.containers) // 10 % len(MARKERS)]  # colours repeat after ten lines
        axis.errorbar(places, values, yerr=[low, high], marker=marker, markersize=4, linewidth=1, label=method)
    ticks = [5, 10, 20, 50, 100]
    axis.set_xlim(4, 110)
    axis.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set_xlabel("FLOPs of the prefill, % of unpatched", fontsize=8)
    axis.tick_params(labelsize=7)


def write_all(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Write ``quality.csv``, ``quality.md`` and, where matplotlib is installed, ``quality.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "quality.csv", folder / "quality.md"]
    written[0].write_text(to_csv(rows))
    written[1].write_text(to_markdown(rows))
    try:
        plot(rows, folder / "quality.png")
    except ImportError:
        return written
    return [*written, folder / "quality.png"]
