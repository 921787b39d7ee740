"""Compile every kernel ahead of time, without a GPU: ``python -m vtc.kernels.aot [--json]``.

Rows of kernel, target, registers, spills (bytes on NVIDIA, registers on AMD), scratch bytes and shared memory. A spill
fails the command.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._dispatch import interpreting, triton_installed

if TYPE_CHECKING:
    from .aot_cases import Launched

TARGETS = {"sm_80": ("cuda", 80, 32), "sm_90": ("cuda", 90, 32), "gfx942": ("hip", "gfx942", 64)}
COLUMNS = ("kernel", "target", "registers", "spills", "scratch", "shared")


def table(names: list[str], only: str = "") -> list[dict[str, Any]]:
    """Compile all launches whose label matches the regular expression ``only`` for the named targets; one row each.

    Parameters
    ----------
    names : list of str
        Keys of ``TARGETS``.
    only : str

    Returns
    -------
    list of dict
        Keys are ``COLUMNS``; ``spills`` counts bytes on NVIDIA and registers on AMD.
    """
    from .aot_cases import launches

    return [
        {"kernel": note.label, "target": name, **_compile(note, name)}
        for note in launches()
        if re.search(only, note.label)
        for name in names
    ]


def _compile(note: Launched, target: str) -> dict[str, int]:
    import triton
    from triton.backends.compiler import GPUTarget

    source = triton.compiler.ASTSource(note.kernel, note.signature, note.constants, note.attributes)
    compiled = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=note.options)
    if "cubin" in compiled.asm:
        use = nvidia_resources(compiled.asm["cubin"])
    else:
        use = amd_resources(compiled.asm["amdgcn"])
    return {**use, "shared": compiled.metadata.shared}


def nvidia_resources(cubin: bytes) -> dict[str, int]:
    """Registers and local bytes of one cubin, read by the ``cuobjdump`` that ships with Triton.

    Local memory is spills: Triton has no stack variables of its own.
    """
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        said = subprocess.run([tool, "--dump-resource-usage", path], check=True, capture_output=True, text=True)
    local = _number(r"STACK:(\d+)", said.stdout) + _number(r"LOCAL:(\d+)", said.stdout)
    return {"registers": _number(r"REG:(\d+)", said.stdout), "spills": local, "scratch": local}


def amd_resources(assembly: str) -> dict[str, int]:
    """Vector registers, spilled registers and scratch bytes from the metadata of one AMD assembly."""
    spills = _number(r"\.vgpr_spill_count:\s*(\d+)", assembly) + _number(r"\.sgpr_spill_count:\s*(\d+)", assembly)
    return {
        "registers": _number(r"\.vgpr_count:\s*(\d+)", assembly),
        "spills": spills,
        "scratch": _number(r"\.private_segment_fixed_size:\s*(\d+)", assembly),
    }


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"The compiler's report has no {pattern!r}; its format changed.")
    return int(found[1])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns 1 when something spills, 2 when it cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m vtc.kernels.aot", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="repeatable; default all")
    parser.add_argument("--only", default="", help="regular expression for the label, as in 'topk' or 'bf16( d=72)?$'")
    options = parser.parse_args(arguments)
    if not triton_installed() or interpreting():
        print("Needs triton installed and TRITON_INTERPRET unset; no GPU.", file=sys.stderr)
        return 2
    rows = table(options.target or list(TARGETS), options.only)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
        for row in rows:
            print("| " + " | ".join(str(row[c]) for c in COLUMNS) + " |")
    return int(any(row["spills"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
