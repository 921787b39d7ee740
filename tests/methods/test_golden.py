"""Every golden file of the directories against the methods; known kinds are checked whatever their suffix."""

import os
from pathlib import Path

import numpy as np
import pytest

from support.golden import CHECKERS, PENDING, kind_of

SHARED = Path(__file__).parents[3] / "shared"
DEFAULT = os.pathsep.join(str(SHARED / name) for name in ("golden", "golden-next"))
ROOTS = [Path(root) for root in os.environ.get("VTC_GOLDEN_DIR", DEFAULT).split(os.pathsep)]
FILES = sorted((path for root in ROOTS for path in root.glob("*.npz")), key=lambda path: path.name)


@pytest.mark.skipif(not FILES, reason=f"no golden files in {', '.join(map(str, ROOTS))}; set VTC_GOLDEN_DIR")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_golden(path):
    kind = kind_of(path.stem)
    if kind in PENDING:
        pytest.skip(f"{kind} is pending: its method is not here yet")
    assert kind in CHECKERS, f"unknown kind of golden file: {kind!r} ({path.name})"
    with np.load(path) as arrays:
        CHECKERS[kind](dict(arrays))


@pytest.mark.parametrize(
    ("stem", "kind"), [("todre_stage1_c", "todre_stage1"), ("hired_anyres_pad_b", "hired_anyres_pad")]
)
def test_kind_of_file(stem, kind):
    assert kind_of(stem) == kind
    assert kind in CHECKERS


def test_what_is_checked_is_not_pending():
    assert not PENDING & CHECKERS.keys()
