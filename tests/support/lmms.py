"""Run lmms-eval in this process, without its 1900 task files and without a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from lmms_eval import evaluator, models
from lmms_eval.tasks import TaskManager

from vtc.core.stage import Projector, Selection, Stage, View
from vtc.eval.lmms.factory import VTCChat, VTCSimple
from vtc.methods import Method

from support.checkpoints import CHECKPOINTS

TASK = "vtc_attribute"


def evaluate(model: Any, tasks: Path, limit: int = 3, names: tuple[str, ...] = (TASK,)) -> Any:
    manager = TaskManager("ERROR", include_path=str(tasks), include_defaults=False)
    return evaluator.simple_evaluate(
        model=model, tasks=list(names), task_manager=manager, limit=limit, bootstrap_iters=0, process_docs_parallel=1
    )


def rows(results: Any, task: str = TASK) -> list[Any]:
    return sorted(results["samples"][task], key=lambda s: s["doc_id"])


def answers(results: Any, task: str = TASK) -> list[str]:
    return [row["filtered_resps"][0] for row in rows(results, task)]


def stock(name: str, path: Path, simple: bool = False) -> Any:
    """The class of lmms-eval itself, with the arguments a CPU needs."""
    cls = models.get_model(CHECKPOINTS[name][2], force_simple=simple)
    return cls.create_from_arg_string(f"pretrained={path},device_map=cpu", {"device": "cpu", "batch_size": 1})


def ours(path: Path, args: str, simple: bool = False, batch: int = 1) -> Any:
    cls = VTCSimple if simple else VTCChat
    return cls.create_from_arg_string(f"pretrained={path},{args}", {"device": "cpu", "batch_size": batch})


@dataclass(kw_only=True)
class Broken(Method):
    """Raises on its third picture."""

    name: ClassVar[str] = "broken"
    summary: ClassVar[str] = "raises"
    seen: ClassVar[list[int]] = [0]
    """Pictures so far; of the class, since every call asks for its stages anew."""

    def stages(self, facts: Any) -> list[Stage]:
        return [Stage(at=Projector(), select=partial(_select, self.seen), keep_count=self.keep_count)]


def _select(seen: list[int], view: View) -> Selection:
    seen[0] += 1
    if seen[0] == 3:
        raise ZeroDivisionError("the third picture broke it")
    return Selection(torch.arange(view.budget))


class Announced:
    """An entry point."""

    def load(self) -> type[Method]:
        Broken.seen[0] = 0
        return Broken
