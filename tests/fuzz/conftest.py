"""Seeds for fuzzers, as many as fit into the time.

``VTC_FUZZ_SECONDS`` sets the time of each fuzzer (default: ``SECONDS`` of its module, or 10), ``VTC_FUZZ_SEED`` the
first seed (default 0). A failure names its seed.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest


class Seeds(Iterator[int]):
    """Seeds ``first``, ``first + 1``, ... until the time is over; at least one, however short the time is."""

    def __init__(self, first: int, seconds: float) -> None:
        self.first, self.seconds = first, seconds
        self.current: int | None = None
        self._numbers = itertools.count(first)
        self._end: float | None = None

    def __next__(self) -> int:
        if self._end is None:  # the clock starts with the first seed, behind what the test prepares
            self._end = time.monotonic() + self.seconds
        elif time.monotonic() >= self._end:
            raise StopIteration
        self.current = next(self._numbers)
        return self.current


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Seeds:
    """Seeds for the loop of a fuzzer."""
    seconds = os.environ.get("VTC_FUZZ_SECONDS") or getattr(request.module, "SECONDS", 10)
    return Seeds(int(os.environ.get("VTC_FUZZ_SEED") or 0), float(seconds))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Any:
    """Add the seed to the report of a failed fuzzer."""
    report = yield
    used = getattr(item, "funcargs", {}).get("seeds")
    if report.failed and isinstance(used, Seeds) and used.current is not None:
        again = f"VTC_FUZZ_SEED={used.current} VTC_FUZZ_SECONDS=0 python -m pytest '{item.nodeid}'"
        report.sections.append(("seed", f"Failed with seed {used.current}; once more: {again}"))
    return report
