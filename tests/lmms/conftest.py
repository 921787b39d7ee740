"""Fixtures for the lmms-eval tests; the tests are skipped where lmms-eval is not installed."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_DATASETS_OFFLINE", "1")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: Any) -> Any:
    """``checkpoint(name)``: folder of a tiny random model."""
    from support import checkpoints

    return functools.cache(lambda name: checkpoints.write(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: Any) -> Path:
    """Folder with our tasks, 11 questions each."""
    from vtc.eval.lmms.tasks import folder

    return folder(number=11, seed=0, root=tmp_path_factory.mktemp("tasks"))
