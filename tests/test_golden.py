"""Every golden file of a directory against the methods; known kinds are checked whatever their suffix."""

import os
from pathlib import Path

import numpy as np
import pytest
from golden_checks import CHECKERS, PENDING, kind_of, pending_reason

ROOT = Path(os.environ.get("VTC_GOLDEN_DIR", Path(__file__).parents[2] / "shared" / "golden"))
FILES = sorted(ROOT.glob("*.npz")) if ROOT.is_dir() else []


@pytest.mark.skipif(not FILES, reason=f"no golden files in {ROOT}; set VTC_GOLDEN_DIR")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden(path):
    kind = kind_of(path.stem)
    if kind not in CHECKERS:
        reason = pending_reason(path.stem)
        assert reason is not None, f"unknown kind of golden file: {kind!r} ({path.name})"
        pytest.skip(f"pending: {reason}")
    with np.load(path) as arrays:
        CHECKERS[kind](dict(arrays))


@pytest.mark.parametrize(
    ("stem", "kind"), [("todre_stage1_c", "todre_stage1"), ("hired_anyres_pad_b", "hired_anyres_pad")]
)
def test_kind_of_file(stem, kind):
    assert kind_of(stem) == kind
    assert kind in CHECKERS


def test_unknown_kind_is_not_pending():
    assert pending_reason("nosuchmethod_rows_a") is None


def test_no_kind_is_both_checked_and_pending():
    assert not [kind for kind in CHECKERS if pending_reason(kind)], PENDING
