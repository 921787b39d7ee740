"""One table out of all cells: score and share retained per setting and task, with what it cost; CSV, Markdown, plot."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .arguments import NO_METHOD

ALL = "all"
COSTS = ("prefill_ms", "first_token_ms", "decode_tokens_per_s", "kv_bytes")
COLUMNS = (
    "method",
    "options",
    "keep",
    "task",
    "n",
    "metric",
    "score",
    "score_retained",
    "tokens_before",
    "tokens_after",
    "tokens_mean",
    "tokens_retained",
    *COSTS,
)
Line = dict[str, Any]


def lines(done: Sequence[dict[str, Any]]) -> list[Line]:
    """One line per setting and task, and one for all tasks of a setting (plain means over tasks).

    ``score_retained`` is the score as a share of the unpatched model's, None where ``none`` did not run.
    """
    found: list[Line] = []
    for cell in done:
        settings = cell["key"]["settings"]
        head = {"method": settings["config"] or settings["method"], "keep": settings["keep"]}
        head["options"] = " ".join(f"{k}={v}" for k, v in settings["options"].items())
        for task, costs in cell["efficiency"]["tasks"].items():
            metric, score = score_of(cell["results"].get(task, {}), cell["metrics"].get(task))
            found.append(
                head | {"task": task, "n": cell["n"].get(task), "metric": metric, "score": score} | _cost(costs)
            )
    found += [_mean(group) for group in _groups(found) if len(group) > 1]
    baseline = {line["task"]: line["score"] for line in found if line["method"] == NO_METHOD}
    for line in found:
        full = baseline.get(line["task"])
        line["score_retained"] = line["score"] / full if full and line["score"] is not None else None
    return found


def score_of(results: dict[str, Any], metric: str | None) -> tuple[str | None, float | None]:
    """Main metric of a task and its value; the first number there is when the task names none."""
    numbers = {
        key: value
        for key, value in results.items()
        if isinstance(value, (int, float)) and "," in key and "_stderr" not in key
    }
    mine = [key for key in numbers if key.split(",")[0] == metric] or list(numbers)
    return (mine[0].split(",")[0], float(numbers[mine[0]])) if mine else (None, None)


def _cost(costs: dict[str, Any]) -> Line:
    names = {"visual_before": "tokens_before", "visual_after": "tokens_after", "visual_mean": "tokens_mean"}
    line = {ours: costs[name] for name, ours in names.items()}
    return line | {"tokens_retained": costs["retained"]} | {name: costs[name] for name in COSTS}


def _groups(found: Sequence[Line]) -> Iterable[list[Line]]:
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in found:
        groups.setdefault((line["method"], line["options"], line["keep"]), []).append(line)
    return groups.values()


def _mean(group: list[Line]) -> Line:
    first = group[0]
    line: Line = {name: first[name] for name in ("method", "options", "keep")}
    scores = [g["score"] for g in group]
    line |= {"task": ALL, "n": sum(g["n"] or 0 for g in group), "metric": "mean"}
    line["score"] = None if None in scores else sum(scores) / len(scores)
    for name in ("tokens_before", "tokens_after", "tokens_mean", *COSTS):
        line[name] = sum(g[name] for g in group) / len(group)
    line["tokens_retained"] = line["tokens_after"] / line["tokens_before"] if line["tokens_before"] else 1.0
    return line


def write_csv(path: Path, found: Sequence[Line]) -> None:
    """Write every line with every column."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({name: line.get(name) for name in COLUMNS} for line in found)


def scores(found: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people: one row per setting, one column per task, their mean and what it retains."""
    tasks = list(dict.fromkeys(line["task"] for line in found if line["task"] != ALL))
    rows = []
    for group in _groups(found):
        by = {line["task"]: line for line in group}
        whole = by.get(ALL, group[0])
        row = _head(whole) + [_text(by[task]["score"] if task in by else None, "{:.3f}") for task in tasks]
        rows.append([*row, _text(whole["score"], "{:.3f}"), _text(whole["score_retained"], "{:.1%}")])
    return [*_HEAD, *tasks, "mean", "retained"], rows


def costs(found: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """Header and rows for people: one row per setting with tokens and costs over all tasks."""
    rows = []
    for group in _groups(found):
        whole = next((line for line in group if line["task"] == ALL), group[0])
        row = [*_head(whole), f"{whole['tokens_before']:.1f}", f"{whole['tokens_after']:.1f}"]
        row += [f"{whole['tokens_retained']:.1%}", f"{whole['tokens_mean']:.1f}"]
        rows.append(row + [f"{whole[name]:.1f}" for name in COSTS[:3]] + [f"{whole['kv_bytes'] / 1024:.1f}"])
    tokens = ["tokens before", "after", "kept", "mean over layers"]
    return [*_HEAD, *tokens, "prefill ms", "first token ms", "decode tokens/s", "KV KiB"], rows


_HEAD = ("method", "options", "keep")


def _head(line: Line) -> list[str]:
    return [line["method"], line["options"] or "-", _text(line["keep"], "{}")]


def _text(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def markdown(found: Sequence[Line]) -> str:
    """Both tables in Markdown."""
    return "\n".join(_markdown(*part) for part in (scores(found), costs(found)))


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    return "".join("| " + " | ".join(part) + " |\n" for part in [header, ["---"] * len(header), *rows])


def plot(path: Path, found: Sequence[Line]) -> None:
    """Draw share of tokens against score, one curve per method, the unpatched model as a dashed line.

    Raises
    ------
    ImportError
        matplotlib is missing.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    curves: dict[str, list[tuple[float, float]]] = {}
    for group in _groups(found):
        whole = next((line for line in group if line["task"] == ALL), group[0])
        if whole["score"] is None:
            continue
        if whole["method"] == NO_METHOD:
            axes.axhline(whole["score"], color="grey", linestyle="--", label="unpatched")
            continue
        name = " ".join(part for part in (whole["method"], whole["options"]) if part)
        mean = whole["tokens_mean"] / whole["tokens_before"] if whole["tokens_before"] else 1.0
        curves.setdefault(name, []).append((100 * mean, whole["score"]))
    for name, points in curves.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set_xlabel("visual tokens kept, mean over layers (%)")
    axes.set_ylabel("score, mean over tasks")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    figure.savefig(path, dpi=150)
