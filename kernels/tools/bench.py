"""Time the kernels: ``python -m vtc.kernels.bench [--out kernels.csv] [--cpu]``.

Rows of time, bytes per second, share of the measured copy bandwidth, and speed against the torch reference and the
published form, appended to a CSV whose rows name device and versions. Needs a GPU; ``--cpu`` times the references.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch

from .._dispatch import triton_installed
from .bench_cases import Case, cases

COLUMNS = (
    "device", "torch", "triton", "dtype", "kernel", "size", "code", "ms", "gb_per_s", "share_of_copy", "x_reference",
    "x_naive",
)  # fmt: skip
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@contextmanager
def implementation(name: str) -> Iterator[None]:
    """Set ``VTC_KERNELS`` for a while."""
    before = os.environ.get("VTC_KERNELS")
    os.environ["VTC_KERNELS"] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ["VTC_KERNELS"]
        else:
            os.environ["VTC_KERNELS"] = before


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Median time of one call: on a GPU with cold caches, on the CPU of three calls after one."""
    if device.type == "cuda":
        from triton.testing import do_bench

        return float(do_bench(run, return_mode="median"))
    run()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes per second, read and written, of a copy that fits in no cache."""
    size = 2**30 if device.type == "cuda" else 2**27
    source, target = torch.zeros(2, size, dtype=torch.uint8, device=device)
    return 2 * size / milliseconds(lambda: target.copy_(source), device) * 1e3


def row(case: Case, device: torch.device, dtype: str, copy: float) -> dict[str, Any]:
    """Measure one case; see ``COLUMNS``."""
    code = "triton" if device.type == "cuda" else "torch"
    with implementation(code):
        taken = milliseconds(case.run, device)
    reference = taken
    if code == "triton":
        with implementation("torch"):
            reference = milliseconds(case.run, device)
    rate = case.traffic / taken * 1e3
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton") if triton_installed() else "",
        "dtype": dtype,
        "kernel": case.name,
        "size": case.size,
        "code": code,
        "ms": f"{taken:.4f}",
        "gb_per_s": f"{rate / 1e9:.1f}",
        "share_of_copy": f"{rate / copy:.2f}",
        "x_reference": f"{reference / taken:.2f}",
        "x_naive": f"{milliseconds(case.naive, device) / taken:.2f}" if case.naive else "",
    }


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Append rows to the CSV, with a header when it is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 also where there is nothing to measure on."""
    parser = argparse.ArgumentParser(prog="python -m vtc.kernels.bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("kernels.csv"), help="CSV to append to")
    parser.add_argument("--dtype", choices=list(DTYPES), default="bf16")
    parser.add_argument("--only", default="", help="part of a kernel's name")
    parser.add_argument("--cpu", action="store_true", help="time the torch references on the CPU, small sizes")
    options = parser.parse_args(arguments)
    if not options.cpu and not (torch.cuda.is_available() and triton_installed()):
        print(
            "Nothing measured: this needs a CUDA or ROCm GPU that torch can see, and triton. About 12 GB of its memory "
            "and five minutes are enough.\nWithout one, --cpu times the torch references on small sizes, and\n"
            "python -m vtc.kernels.aot shows registers, spills and shared memory of every kernel."
        )
        return 0
    device = torch.device("cpu" if options.cpu else "cuda")
    torch.manual_seed(0)
    copy = copy_bandwidth(device)
    print(f"copy bandwidth {copy / 1e9:.0f} GB/s")
    for case in cases(device, DTYPES[options.dtype], options.cpu):
        if options.only in case.name:
            measured = row(case, device, options.dtype, copy)
            append(options.out, [measured])
            print("  ".join(f"{c} {measured[c]}" for c in COLUMNS[4:]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
