"""Seeds for the fuzzers: as many as fit into a time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def seeds() -> Iterator[int]:
    """0, 1, 2, ... until ``VTC_FUZZ_SECONDS`` (10 by default) are over."""
    end = time.monotonic() + float(os.environ.get("VTC_FUZZ_SECONDS", "10"))

    def count() -> Iterator[int]:
        seed = 0
        while time.monotonic() < end or seed == 0:
            yield seed
            seed += 1

    return count()
