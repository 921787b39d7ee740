"""Run the proofs and the covering subset of the matrix on many versions of transformers, one environment each.

``make sweep`` runs every minor version from the floor to the newest tested one; ``VERSIONS="5.5 5.24"`` picks some. The
table is ``docs/compatibility.md``; versions that are not run this time keep the rows of the last time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TABLE, DATA = ROOT / "docs/compatibility.md", ROOT / "docs/compatibility.json"
GROUPS = {
    "LLaVA": ("llava", "vipllava", "llava_next", "llava_next_video", "llava_onevision", "video_llava"),
    "Qwen-VL": ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5"),
    "Gemma": ("gemma3", "gemma4", "paligemma"),
    "pi0": ("pi0",),
    "others": (),
}
FOLLOW = ("transformers", "tokenizers", "huggingface-hub", "safetensors", "hf-xet")
"""Packages that a version of transformers chooses for itself."""
TESTS = ("tests/matrix", "tests/engine/test_engine_proofs.py")
HEAD = """# Versions of transformers

Made by `make sweep`: for every minor version, on its newest patch release and in an environment of its own, the proofs
of `vtc doctor --prove` for every family, the covering subset of the matrix (every family, every method) and the engine
proofs. A number like `6 / 6` counts the families of a group on which every obligation holds; what is refused is refused
with the reason below the table. Where `generate` repeated pixels image by image for beams (before it encoded each image
once), a prompt with several images is answered wrongly by transformers itself; the proofs leave beams of such prompts
out there.

"""


def minors() -> list[str]:
    """Every minor version from the floor to the newest tested one."""
    source = (ROOT / "vtc/compat.py").read_text()
    low, high = (int(re.findall(rf'^{name} = "5\.(\d+)"', source, re.M)[0]) for name in ("FLOOR", "TESTED"))
    return [f"5.{minor}" for minor in range(low, high + 1)]


def constraints(folder: Path) -> Path:
    """The tested versions of everything but what transformers chooses for itself."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(tuple(f"{name}==" for name in FOLLOW))]
    file = folder / "constraints.txt"
    file.write_text("\n".join(kept) + "\n")
    return file


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command and take what it prints."""
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, **options)


def build(minor: str, folder: Path) -> tuple[Path, str]:
    """Environment of one version: its Python, and why it could not be made (or an empty text)."""
    home = folder / minor
    made = run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(home)])
    wanted = ["-e", ".[dev]", f"transformers=={minor}.*"]
    python = home / "bin/python"
    pins = ["-c", str(constraints(folder))]
    if made.returncode == 0:
        made = run([sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), *pins, *wanted])
    return python, "" if made.returncode == 0 else made.stderr.strip().splitlines()[-1]


def check(minor: str, folder: Path, jobs: int) -> dict[str, Any]:
    """Everything that is known of one version."""
    begun = time.monotonic()
    python, fault = build(minor, folder)
    if fault:
        return {"version": minor, "fault": f"not installed: {fault}"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    found = run([str(python), "-c", "import transformers; print(transformers.__version__)"]).stdout.strip()
    proof = run([str(python.parent / "vtc"), "doctor", "--prove", "--json"], env=environment)
    # older versions warn of functions of their own that they still call themselves
    quiet = ["-W", "ignore::FutureWarning", "--no-header", "-p", "no:cacheprovider"]
    command = [str(python), "-m", "pytest", *TESTS, "-n", str(jobs), *quiet]
    tests = run(command, env=environment)
    shutil.rmtree(folder / minor)
    last = (tests.stdout.strip().splitlines() or [""])[-1]
    return {
        "version": found or minor,
        "families": families(proof.stdout),
        "tests": re.findall(r"\d+ (?:passed|failed|skipped|errors?)", last),
        "failed": re.findall(r"^FAILED (\S+)", tests.stdout, re.M)[:8],
        "fault": "" if proof.stdout else proof.stderr.strip()[-300:],
        "seconds": round(time.monotonic() - begun),
    }


def families(text: str) -> dict[str, dict[str, str]]:
    """Outcome and reason of every family out of what ``vtc doctor --prove --json`` printed."""
    try:
        proof = json.loads(text)["proof"]
    except (ValueError, KeyError):
        return {}
    out = {}
    for family in proof["families"]:
        worst: dict[str, str] = {}
        for finding in family["findings"]:
            worst.setdefault(finding["outcome"], f"{finding['obligation']}: {finding['reason']}")
        every = {f["outcome"] for f in family["findings"]}
        outcome = "differs" if "differs" in every else "refused" if every == {"refused"} else "holds"
        out[family["family"]] = {"outcome": outcome, "reason": worst.get(outcome, "") if outcome != "holds" else ""}
    return out


def group_of(family: str) -> str:
    """Column a family is counted in."""
    return next((name for name, members in GROUPS.items() if family in members), "others")


def cell(row: dict[str, Any], group: str) -> str:
    """Families of a group that hold, of those that were proved."""
    mine = [f for name, f in row.get("families", {}).items() if group_of(name) == group]
    return f"{sum(f['outcome'] == 'holds' for f in mine)} / {len(mine)}" if mine else "-"


def render(rows: Iterable[dict[str, Any]]) -> str:
    """The page."""
    rows = list(rows)
    refused: dict[str, list[str]] = {}
    lines = ["| transformers | " + " | ".join(GROUPS) + " | matrix and engine proofs |", "|---|" + "---|" * 6]
    notes = []
    for row in rows:
        tests = row.get("fault") or ", ".join(row["tests"])
        lines.append(f"| {row['version']} | " + " | ".join(cell(row, g) for g in GROUPS) + f" | {tests} |")
        for name, found in row.get("families", {}).items():
            if found["outcome"] != "holds":
                why = re.sub(r", found [\d.]+", "", found["reason"])
                refused.setdefault(f"{name}, {found['outcome']}: {why}", []).append(row["version"])
        notes += [f"- {row['version']}, failed: `{name}`" for name in row.get("failed", ())]
    notes = [f"- {why} ({', '.join(versions)})" for why, versions in refused.items()] + notes
    return HEAD + "\n".join([*lines, "", *notes]).rstrip() + "\n"


def key(version: str) -> tuple[int, ...]:
    """Order of versions."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def main() -> int:
    """Sweep, and write the table after every version."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", help="minor versions, such as 5.24; default: all of them")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    rows = {key(r["version"])[:2]: r for r in (json.loads(DATA.read_text()) if DATA.exists() else [])}
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        for minor in options.versions or minors():
            row = check(minor, Path(folder), options.jobs)
            rows[key(minor)[:2]] = row
            differs = [n for n, f in row.get("families", {}).items() if f["outcome"] == "differs"]
            bad = bad or bool(row.get("fault") or row.get("failed") or differs)
            print(
                minor, row.get("fault") or ", ".join(row["tests"]), differs or "", f"{row.get('seconds')} s", flush=True
            )
            ordered = [rows[k] for k in sorted(rows)]
            DATA.write_text(json.dumps(ordered, indent=1) + "\n")
            TABLE.write_text(render(ordered))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
