"""Shared fixtures: deterministic seeds, one thread per worker, models built once per session."""

from __future__ import annotations

import functools
import logging
import os
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)

import vtc  # noqa: E402

from support import tiny_families  # noqa: E402

OURS = tuple(os.path.dirname(m.__file__) + os.sep for m in (vtc, vtc.adapters))


@functools.cache
def _built(name: str, attention: str) -> Any:
    model = tiny_families.ALL[name].build()
    if attention != "sdpa":  # the default, but for text models that have no such kernel
        model.set_attn_implementation(attention)
    return model


@pytest.fixture
def tiny_model() -> Any:
    """``tiny_model(case, attention)``: a model shared by the tests; it must come back unpatched."""
    used = []

    def get(name: str, attention: str = "sdpa") -> Any:
        model = _built(name, attention)
        used.append(model)
        return model

    yield get
    for model in used:
        handle = model.__dict__.get("_vtc_handle")
        if handle is not None:
            handle.remove()
            raise AssertionError("a test left its model patched")


class _Deprecations(logging.Handler):
    """Collects what transformers logs as deprecated when the nearest caller outside of libraries is vtc."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "deprecat" not in record.getMessage().lower():
            return
        for frame in reversed(traceback.extract_stack()):
            parts = Path(frame.filename).parts
            if not {"transformers", "torch", "logging", "accelerate"} & set(parts) and frame.filename != __file__:
                if frame.filename.startswith(OURS):
                    self.found.append(record.getMessage())
                return


@pytest.fixture(autouse=True)
def no_deprecated_calls() -> Any:
    """Deprecations of transformers that our own calls raise fail the test."""
    handler = _Deprecations()
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert not handler.found


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line on the matrix: passed, refused (with reasons), skipped."""
    stats = {key: [r for r in terminalreporter.stats.get(key, []) if "test_matrix[" in r.nodeid] for key in _OUTCOMES}
    if not any(stats.values()):
        return
    reasons: dict[str, list[str]] = {}
    for report in stats["passed"]:
        for key, value in report.user_properties:
            if key == "refused":
                reasons.setdefault(value, []).append(report.nodeid.split("[")[-1][:-1])
    refused = sum(map(len, reasons.values()))
    for reason, where in reasons.items():
        terminalreporter.write_line(f"refused {len(where)} x ({', '.join(where[:4])} ...): {reason}")
    passed, skipped = len(stats["passed"]) - refused, len(stats["skipped"])
    failed = f", {len(stats['failed'])} FAILED" if stats["failed"] else ""
    terminalreporter.write_line(f"matrix: {passed} passed, {refused} refused, {skipped} skipped{failed}")


_OUTCOMES = ("passed", "failed", "skipped")
