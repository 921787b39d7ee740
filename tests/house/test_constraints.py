"""The exact versions that the suite is installed with, and who installs them."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tools import constraints, sweep

ROOT = Path(__file__).parents[2]

LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = dict(re.match(r"([a-z0-9-]+)==(\S+) ; ", line).groups() for line in LINES)


def test_lines_are_exact_versions_with_markers():
    assert all(re.fullmatch(r'[a-z0-9-]+==[0-9][\w.]* ; python_version >= "3\.11"( and .+)?', line) for line in LINES)
    assert len(PINS) == len(LINES) > 100 and not constraints.OURS & set(PINS)
    assert {"torch", "transformers", "lmms-eval", "gradio", "filelock", "optuna", "timm"} <= set(PINS)


def test_they_are_within_the_bounds_of_the_project():
    text = (ROOT / "pyproject.toml").read_text()
    assert re.findall(r'"transformers>=5\.5,<5\.25"', text) and re.findall(r'"filelock<4\.3"', text)
    assert (5, 5) <= sweep.key(PINS["transformers"])[:2] < (5, 25) and sweep.key(PINS["filelock"]) < (4, 3)


def test_the_makefile_installs_them():
    text = (ROOT / "Makefile").read_text()
    installs = re.findall(r"uv pip install .*", text)
    assert [("$(PIN)" in line) for line in installs if "$(EXTRAS)" not in line] == [True, True]


def test_what_is_installed_here_is_what_they_say():
    if sys.version_info < (3, 11) or any(version(n) != PINS[n] for n in ("torch", "transformers", "numpy")):
        pytest.skip("this environment was not made with the constraints")
    found = constraints.installed()
    assert {n: v for n, v in found.items() if n in PINS and v != PINS[n]} == {}


def test_a_row_of_the_sweep():
    proof = """{"proof": {"families": [
        {"family": "llava", "findings": [{"outcome": "holds", "obligation": "kv", "reason": ""}]},
        {"family": "gemma4", "findings": [{"outcome": "refused", "obligation": "kv", "reason": "needs 5.23"}]},
        {"family": "pi0", "findings": [{"outcome": "differs", "obligation": "masking", "reason": "off by 1"}]}]}}"""
    row = {"version": "5.7.1", "families": sweep.families(proof), "tests": ["3 passed"], "failed": ["a::b"]}
    page = sweep.render([row])
    assert "| 5.7.1 | 1 / 1 | - | 0 / 1 | 0 / 1 | - | 3 passed |" in page
    assert "- gemma4, refused: kv: needs 5.23 (5.7.1)" in page and "- pi0, differs: masking: off by 1 (5.7.1)" in page
    assert "failed: `a::b`" in page and sweep.minors()[0] == "5.5" and sweep.minors()[-1] == "5.24"
