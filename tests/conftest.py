"""Shared fixtures: deterministic seeds, one thread per worker, models built once per session."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch.set_num_threads(1)

import tiny_families  # noqa: E402


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
