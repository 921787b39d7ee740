"""The figures of a soak as a page."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence

import torch
import transformers

import vtc

from .kinds import KINDS
from .run import MODELS, Soak

HEAD = """# Reliability

Made by `make soak` (`python -m vtc.eval.soak --minutes N --seed S --page docs/reliability.md`). Tiny models are called
in random kinds, modes and methods, from several threads, with faults planted. Every answer is compared with the one
that the same request got before the run, when nothing else ran, on a copy of the model of its own: `equal` has the same
ids, and the same logits up to the order of float32 sums (3e-5). `refused` counts what was asked for and cannot be had
(to take a patch off under a running call, an impossible `keep`) and was said so; the call beside or behind it is
compared as well. `broken off` counts calls that Ctrl-C or a planted exception ended: they have no answer, the calls
behind them have. A call that raises where it should answer counts as wrong. Resident memory that grows by more than a
tenth in the second half fails the run, as a wrong answer does.

"""


def row(kind: str, counts: Sequence[int]) -> str:
    """Line of the table."""
    return " | ".join([f"| {kind}", *(str(n) for n in (sum(counts), *counts))]) + " |"


def render(result: Soak) -> str:
    """Markdown page."""
    when = datetime.date.today().isoformat()
    versions = f"vtc {vtc.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    counters = result.equal, result.refused, result.broken, result.wrong
    lines = [
        f"{when}, {versions}, Python {platform.python_version()}, {platform.system()} on {platform.machine()} "
        f"with {os.cpu_count()} CPU cores, seed {result.seed}: "
        f"{result.seconds / 60:g} minutes on {' and '.join(MODELS)} with {len(result.methods)} methods.",
        "",
        "| kind of call | all | equal | refused | broken off | wrong |",
        "|---|---|---|---|---|---|",
        *(row(kind, [c[kind] for c in counters]) for kind in KINDS),
        row("all", [c.total() for c in counters]),
        "",
        "Resident memory:",
        "",
        "| answers so far | MiB |",
        "|---|---|",
        *(f"| {count} | {size:.0f} |" for count, size in result.memory),
    ]
    if result.faults:
        lines += ["", "What was wrong:", "", *(f"- {fault}" for fault in result.faults)]
    return HEAD + "\n".join(lines) + "\n"
