"""Kernel tests run in Triton's CPU interpreter, with outputs poisoned before the kernels write them."""

import importlib
import os
import sys

import pytest
import torch

# Triton decides while its functions are being defined whether they are interpreted
late = "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1"
os.environ["TRITON_INTERPRET"] = "1"
if late:
    # some library imported it before this folder was collected: define the functions of its language again, in place
    importlib.reload(importlib.import_module("triton.language.standard"))
    importlib.reload(importlib.import_module("triton.language"))

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def poison():
    """Fill every torch.empty with NaN (integers: the largest value), so that an unwritten output shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def both():
    """Run a call with the torch reference and with the kernel, and return both results."""

    def run(function, *args, **kwargs):
        before = os.environ.get("VTC_KERNELS")
        try:
            results = []
            for choice in ("torch", "triton"):
                os.environ["VTC_KERNELS"] = choice
                results.append(function(*args, **kwargs))
            return results
        finally:
            if before is None:
                os.environ.pop("VTC_KERNELS", None)
            else:
                os.environ["VTC_KERNELS"] = before

    return run


@pytest.fixture(params=[torch.float32, torch.bfloat16, torch.float16], ids=["fp32", "bf16", "fp16"])
def dtype(request):
    return request.param


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
