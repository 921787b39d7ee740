"""The end of a training: the exported model answers the pinned test sets; last line of the log, model card.

Run it again for a finished folder with ``python -m vtc.eval.training.final NAME WORK FOLDER``.
"""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

from ..quality import BLANK, Benchmark
from ..quality.questions import PER_FAMILY
from .card import write_card
from .specs import SPECS


def describe_device(device: Any, threads: int) -> str:
    """Name of a GPU, or kind and threads of a CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{threads} thread{'s' * (threads > 1)} of a {platform.machine()} CPU"


def finish(name: str, folder: Path, log: Path, facts: dict[str, Any], each: int = PER_FAMILY) -> dict[str, float]:
    """Measure the exported model in ``folder``, append the result to ``log``, write the model card.

    Parameters
    ----------
    name : str
        A key of :data:`vtc.eval.training.specs.SPECS`.
    folder : Path
        The exported model.
    log : Path
        JSON lines of the training.
    facts : dict
        ``step``, ``samples``, ``seconds``, ``device`` and ``start``.
    each : int
        Questions per family, from the beginning of the pinned test sets.

    Returns
    -------
    dict
        Accuracy per family, and under ``"all"``.
    """
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from vtc.pretrained import from_pretrained

    model = from_pretrained(AutoModelForImageTextToText, folder, dtype=torch.float32).eval()
    families = SPECS[name].families
    processor = from_pretrained(AutoProcessor, folder)
    bench = Benchmark(model, processor, each * len(families), families=families, model_name=name)
    rows = [*bench.run(), *bench.run(BLANK)]
    accuracy, blank = ({r.family: round(r.accuracy, 4) for r in rows if r.method == m} for m in ("none", BLANK))
    line = {**facts, "test_questions_per_family": each, "accuracy": accuracy, "blank": blank}
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    write_card(name, folder, facts, rows)
    return accuracy


def main(name: str, work: Path, folder: Path) -> None:
    """Finish a training whose facts are in the last line of its log that has no test."""
    lines = [json.loads(text) for text in (work / "log.jsonl").read_text().splitlines()]
    last = [line for line in lines if "test_questions_per_family" not in line][-1]
    facts = {key: last.get(key, "") for key in ("step", "samples", "seconds", "device", "start")}
    print(json.dumps(finish(name, folder, work / "log.jsonl", facts), indent=2))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
