"""The sweep behind ``vtc eval run``: methods x strengths x tasks through lmms-eval's ``simple_evaluate``."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vtc
from vtc.files import file_to_write, read_json

from .arguments import NO_METHOD, Settings
from .ranks import is_first

log = logging.getLogger("vtc")
LARGEST_CELL = 2**30
"""Bytes; a cell holds every answer."""


@dataclass(frozen=True)
class Plan:
    """What to run.

    Parameters
    ----------
    model : dict
        Arguments of the base class (``pretrained``, ...); ``base`` may be among them.
    settings : list of Settings
        Lines of the table.
    tasks : list of str
        Names lmms-eval knows, or those in ``include``.
    include : list of str
        Folders with further tasks.
    defaults : bool
        Index lmms-eval's own tasks (about 20 s).
    limit : int or None
        Questions per task; None: all.
    simple : bool
        Take the base's simple class.
    gen_kwargs : str
        Overrides for the tasks' generation arguments, as lmms-eval takes them.
    """

    model: dict[str, Any]
    settings: list[Settings]
    tasks: list[str]
    include: list[str] = field(default_factory=list)
    defaults: bool = True
    limit: int | None = None
    simple: bool = False
    gen_kwargs: str = ""


@dataclass(frozen=True)
class Cell:
    """One setting on one task: where its result is kept, and what it depends on."""

    settings: Settings
    task: str
    path: Path
    key: dict[str, Any]

    def stored(self) -> dict[str, Any] | None:
        """Result of an earlier run with the very same key, None without."""
        if not self.path.is_file():
            return None
        try:
            found = read_json(self.path, "result", most=LARGEST_CELL)
        except ValueError as error:
            log.warning("running %s again: %s", self.path.name, error)
            return None
        return found if isinstance(found, dict) and found.get("key") == self.key else None


def cells(plan: Plan, out: Path) -> list[Cell]:
    """All cells of a plan, settings first."""
    common = {
        "model": plan.model,
        "include": plan.include,
        "limit": plan.limit,
        "simple": plan.simple,
        "gen_kwargs": plan.gen_kwargs,
        "versions": {name: version(name) for name in ("lmms-eval", "transformers", "torch")},
        "vtc": vtc.__version__,
    }
    found = []
    for settings in plan.settings:
        mine = {k: v for k, v in asdict(settings).items() if k != "stats_path"}
        for task in plan.tasks:
            key = json.loads(json.dumps({**common, "task": task, "settings": mine}))
            found.append(Cell(settings, task, out / "cells" / slug(settings) / f"{_safe(task)}.json", key))
    return found


def slug(settings: Settings) -> str:
    """Folder name of a setting."""
    options = "_".join(f"{name}={value}" for name, value in sorted(settings.options.items()))
    parts = [Path(settings.config).stem] if settings.config else [settings.method, settings.keep, options]
    return _safe("_".join(str(part) for part in parts if part not in (None, "")))


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_.=" else "-" for c in text)


def run(
    plan: Plan, out: Path, resume: bool = True, progress: Callable[[str], None] = log.info
) -> list[dict[str, Any]] | None:
    """Run what is not there yet; every finished cell is written at once.

    Parameters
    ----------
    plan : Plan
    out : pathlib.Path
        Folder; cells go to ``cells/SETTING/TASK.json``.
    resume : bool
        Use cells of earlier runs with the same key (arguments and versions).
    progress : callable
        Takes one line per cell.

    Returns
    -------
    list of dict
        ``{"key", "results", "efficiency", "samples", ...}`` per cell; None on ranks other than the first.

    Raises
    ------
    vtc.eval.lmms.failure.EvaluationError
        An answer could not be generated.
    ValueError, TypeError, ImportError, OSError
        From the arguments, the base class or lmms-eval.
    """
    todo = cells(plan, out)
    known = [cell.stored() if resume else None for cell in todo]
    done: list[dict[str, Any] | None] = []
    bench = None
    for number, (cell, stored) in enumerate(zip(todo, known, strict=True), 1):
        title = f"[{number}/{len(todo)}] {slug(cell.settings)} on {cell.task}"
        if stored is not None:
            progress(f"{title}: already there")
            done.append(stored)
            continue
        progress(title)
        bench = bench or Bench(plan, cell.settings)
        result = bench.evaluate(cell)
        if result is not None:
            file_to_write(cell.path, "result").write_text(json.dumps(result, indent=2, default=str))
            done.append(result)
    return [d for d in done if d is not None] if is_first() else None


class Bench:
    """The model, loaded once and patched anew for every setting, and lmms-eval's index of tasks."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        from lmms_eval.tasks import TaskManager

        from .factory import create

        self.plan = plan
        args = {**plan.model, "method": NO_METHOD}
        self.model = create(args, plan.simple)
        self.model.keep_model = True
        self.settings: Settings | None = None
        self.manager = TaskManager(
            "ERROR", include_path=plan.include or None, include_defaults=plan.defaults, model_name=self.model.base_name
        )

    def evaluate(self, cell: Cell) -> dict[str, Any] | None:
        """Evaluate one cell; None on ranks other than the first."""
        from lmms_eval.evaluator import simple_evaluate

        self.model.use(cell.settings)
        results = simple_evaluate(
            model=self.model,
            tasks=[cell.task],
            task_manager=self.manager,
            limit=self.plan.limit,
            batch_size=self.model.batch_size,
            gen_kwargs=self.plan.gen_kwargs or None,
            bootstrap_iters=0,
            verbosity="ERROR",
            process_docs_parallel=1,
        )
        if results is None:
            return None
        numbers = self.model.numbers()
        return {
            "key": cell.key,
            "results": results["results"],
            "metrics": {name: _metric(config) for name, config in results["configs"].items()},
            "n": {name: count["effective"] for name, count in results["n-samples"].items()},
            "efficiency": {"run": numbers["run"], "tasks": numbers["tasks"]},
            "samples": _samples(results["samples"], numbers["samples"]),
        }


def _metric(config: dict[str, Any]) -> str | None:
    """Name of the metric a task names first."""
    listed: Sequence[dict[str, Any]] = config.get("metric_list") or [{}]
    name = listed[0].get("metric")
    return name if isinstance(name, str) else None


def _samples(answers: dict[str, list[dict[str, Any]]], costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answer, score and cost of every document, in order."""
    cost = {(c["task"], c["doc_id"]): c for c in costs}
    found = []
    for task, rows in answers.items():
        for row in sorted(rows, key=lambda r: r["doc_id"]):
            scores = {k: v for k, v in row.items() if isinstance(v, (int, float)) and k != "doc_id"}
            found.append(
                {
                    "task": task,
                    "doc_id": row["doc_id"],
                    "target": row["target"],
                    "answer": row["filtered_resps"],
                    "scores": scores,
                    "vtc": cost.get((task, row["doc_id"])),
                }
            )
    return found
