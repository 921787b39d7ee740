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
that the same request has when nothing else runs: the same ids, and the same logits up to the order of float32 sums. A
call that raises where it should answer counts as wrong.

"""


def render(result: Soak) -> str:
    """Markdown page."""
    when = datetime.date.today().isoformat()
    versions = f"vtc {vtc.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    lines = [
        f"{when}, {versions}, Python {platform.python_version()}, {os.cpu_count()} CPU cores, seed {result.seed}: "
        f"{result.seconds / 60:.0f} minutes on {' and '.join(MODELS)} with {len(result.methods)} methods.",
        "",
        "| kind of call | equal | wrong |",
        "|---|---|---|",
        *(f"| {kind} | {result.equal[kind]} | {result.wrong[kind]} |" for kind in KINDS),
        f"| all | {result.equal.total()} | {result.wrong.total()} |",
        "",
        "Resident memory:",
        "",
        "| answers so far | MiB |",
        "|---|---|",
        *(f"| {count} | {size:.0f} |" for count, size in result.memory),
    ]
    return HEAD + "\n".join(lines) + "\n"
