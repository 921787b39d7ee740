"""Every golden file of a directory against the methods; known kinds are checked whatever their suffix."""

import os
from pathlib import Path

import numpy as np
import pytest
from golden_checks import CHECKERS, kind_of

ROOT = Path(os.environ.get("VTC_GOLDEN_DIR", Path(__file__).parents[2] / "shared" / "golden"))
FILES = sorted(ROOT.glob("*.npz")) if ROOT.is_dir() else []


@pytest.mark.skipif(not FILES, reason=f"no golden files in {ROOT}; set VTC_GOLDEN_DIR")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden(path):
    kind = kind_of(path.stem)
    assert kind in CHECKERS, f"unknown kind of golden file: {kind!r} ({path.name})"
    with np.load(path) as arrays:
        CHECKERS[kind](dict(arrays))


@pytest.mark.parametrize(
    ("stem", "kind"), [("todre_stage1_c", "todre_stage1"), ("hired_anyres_pad_b", "hired_anyres_pad")]
)
def test_kind_of_file(stem, kind):
    assert kind_of(stem) == kind
    assert kind in CHECKERS
