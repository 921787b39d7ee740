import os
import subprocess
import sys

import pytest
import torch

from vtc import kernels
from vtc.kernels import _dispatch
from vtc.kernels.topk import triton as topk


def test_cpu_takes_the_reference(monkeypatch):
    monkeypatch.delenv("VTC_KERNELS", raising=False)
    assert not _dispatch.use_triton(torch.zeros(1))


def test_gpu_takes_the_kernel(monkeypatch):
    class OnGpu:
        """What the dispatch reads of a tensor on a GPU."""

        device = torch.device("cuda")
        dtype = torch.bfloat16
        requires_grad = False

        def is_floating_point(self):
            return True

    monkeypatch.delenv("VTC_KERNELS", raising=False)
    assert _dispatch.use_triton(OnGpu(), None)
    monkeypatch.setattr(_dispatch, "triton_installed", lambda: False)
    assert not _dispatch.use_triton(OnGpu())
    monkeypatch.setenv("VTC_KERNELS", "torch")
    assert not _dispatch.use_triton(OnGpu())


def test_the_public_function_calls_the_kernel(monkeypatch):
    calls, launcher = [], topk.topk_triton
    monkeypatch.setattr(topk, "topk_triton", lambda *a: calls.append(1) or launcher(*a))
    for choice, count in (("torch", 0), ("triton", 1)):
        monkeypatch.setenv("VTC_KERNELS", choice)
        kernels.topk_select(torch.arange(4.0)[None], 2)
        assert len(calls) == count


def test_override(monkeypatch):
    monkeypatch.setenv("VTC_KERNELS", "triton")
    x = torch.zeros(1)
    assert _dispatch.use_triton(x)
    assert not _dispatch.use_triton(x.double())
    assert not _dispatch.use_triton(x.clone().requires_grad_())
    with torch.no_grad():
        assert _dispatch.use_triton(x.clone().requires_grad_())


def test_impossible_overrides_are_errors(monkeypatch):
    monkeypatch.setenv("VTC_KERNELS", "cuda")
    with pytest.raises(ValueError, match="'cuda' is not known. Allowed: triton or torch"):
        _dispatch.use_triton(torch.zeros(1))
    monkeypatch.setenv("VTC_KERNELS", "triton")
    monkeypatch.setattr(_dispatch, "interpreting", lambda: False)
    with pytest.raises(ValueError, match="the tensors are on cpu.*TRITON_INTERPRET=1"):
        _dispatch.use_triton(torch.zeros(1))
    monkeypatch.setattr(_dispatch, "triton_installed", lambda: False)
    with pytest.raises(ValueError, match="not installed"):
        _dispatch.use_triton(torch.zeros(1))


def test_gradients_flow_through_the_reference(monkeypatch):
    monkeypatch.setenv("VTC_KERNELS", "triton")
    x = torch.randn(1, 6, 4, requires_grad=True)
    kernels.merge_tokens(x, torch.tensor([[0, 3]])).values.sum().backward()
    assert x.grad is not None and (x.grad != 0).all()


def test_interpreter_works_after_a_late_switch():
    """What conftest.py does when another test module imported Triton first."""
    code = (
        "import os, importlib, torch, triton.language as tl; os.environ['TRITON_INTERPRET'] = '1';"
        "importlib.reload(importlib.import_module('triton.language.standard')); importlib.reload(tl);"
        "from vtc.kernels import topk_select; assert topk_select(torch.arange(4.)[None], 1).index.item() == 3"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"VTC_KERNELS": "triton"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)


def test_importing_and_referencing_never_imports_triton():
    code = (
        "import sys, torch, vtc.kernels as k; k.topk_select(torch.zeros(1, 3), 1);"
        "k.greedy_diverse(torch.ones(1, 3, 2), 2, torch.zeros(1, dtype=torch.long)); sys.exit('triton' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
