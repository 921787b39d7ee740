"""The figures of a soak as a page."""

from __future__ import annotations

import datetime
import os
import platform

import torch
import transformers

import vtc

from .kinds import KINDS
from .run import MODELS, Soak

HEAD = """# Reliability

Made by `make soak` (`python -m vtc.eval.soak --minutes N --seed S --page docs/reliability.md`). Tiny models are called
in random kinds, modes and methods, from several threads, with faults planted; every answer is compared with the one
that the same request has when nothing else runs, on a copy of the model of its own: the same ids, and the same logits
up to the order of float32 sums (3e-5). `refused` counts what was asked for and cannot be had (to take a patch off under
a running call, an impossible `keep`) and was said so; the call beside or behind it is compared as well. A call that
raises where it should answer counts as wrong. Calls that were themselves interrupted have no answer: the next one does.
Resident memory that grows by more than a tenth in the second half fails the run, as a wrong answer does.

"""


def row(kind: str, equal: int, refused: int, wrong: int) -> str:
    """Line of the table."""
    return f"| {kind} | {equal + refused + wrong} | {equal} | {refused} | {wrong} |"


def render(result: Soak) -> str:
    """Markdown page."""
    when = datetime.date.today().isoformat()
    versions = f"vtc {vtc.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    counters = result.equal, result.refused, result.wrong
    lines = [
        f"{when}, {versions}, Python {platform.python_version()}, {platform.system()} on {platform.machine()} "
        f"with {os.cpu_count()} CPU cores, seed {result.seed}: "
        f"{result.seconds / 60:g} minutes on {' and '.join(MODELS)} with {len(result.methods)} methods.",
        "",
        "| kind of call | answers | equal | refused | wrong |",
        "|---|---|---|---|---|",
        *(row(kind, *(c[kind] for c in counters)) for kind in KINDS),
        row("all", *(c.total() for c in counters)),
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
