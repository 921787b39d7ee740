"""Which implementation runs: the Triton kernel or the torch reference. Nothing here imports Triton."""

from __future__ import annotations

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor

CHOICES = ("triton", "torch")
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@cache
def triton_installed() -> bool:
    """Whether ``import triton`` would work (looked up once, without importing it)."""
    return importlib.util.find_spec("triton") is not None


def interpreting() -> bool:
    """Whether Triton's CPU interpreter is switched on (``TRITON_INTERPRET=1``)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def program_target() -> int:
    """Return how many programs to split work into: enough to fill a current GPU twice, few in the slow interpreter."""
    return 6 if interpreting() else 264


def tile_limit(size: int) -> int:
    """Return the largest side of a tile; the interpreter takes its time per tile, not per element."""
    return max(size, 256) if interpreting() else size


def use_triton(*tensors: Tensor | None) -> bool:
    """Decide for one call.

    Tensors on CUDA or HIP with Triton installed take the kernel, everything else the torch reference. The environment
    variable ``VTC_KERNELS`` (``triton`` or ``torch``) overrides that. Two cases always take the reference: fp64
    floats, which the kernels would round, and tensors that record gradients, which the kernels cannot pass on.

    Parameters
    ----------
    *tensors : Tensor or None
        All tensors of the call.

    Returns
    -------
    bool

    Raises
    ------
    ValueError
        When ``VTC_KERNELS`` is neither word, or asks for Triton where it cannot run.
    """
    given = [t for t in tensors if t is not None]
    choice = os.environ.get("VTC_KERNELS", "").strip().lower()
    if not choice and given[0].device.type != "cuda":
        return False
    if choice not in ("", *CHOICES):
        raise ValueError(
            f"VTC_KERNELS={choice!r} is not known. Allowed: {' or '.join(CHOICES)}; unset it to choose by device."
        )
    if choice == "torch" or not _kernels_can(given):
        return False
    # one GPU: a kernel cannot follow a pointer to another
    on_gpu = given[0].device.type == "cuda" and all(t.device == given[0].device for t in given)
    if choice == "triton":
        _require_triton(on_gpu, given)
        return True
    return on_gpu and triton_installed()


def launching_on(x: Tensor) -> AbstractContextManager[object]:
    """Make the GPU of ``x`` the current one: Triton launches there, and a sharded model uses several."""
    return torch.cuda.device(x.device) if x.device.type == "cuda" else nullcontext()


def _kernels_can(tensors: list[Tensor]) -> bool:
    if any(t.is_floating_point() and t.dtype not in FLOATS for t in tensors):
        return False
    return not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))


def _require_triton(on_gpu: bool, tensors: list[Tensor]) -> None:
    if not triton_installed():
        raise ValueError("VTC_KERNELS=triton, but triton is not installed. Install it, or set VTC_KERNELS=torch.")
    if not on_gpu and not interpreting():
        devices = ", ".join(sorted({str(t.device) for t in tensors}))
        raise ValueError(
            f"VTC_KERNELS=triton, but the tensors are on {devices}. Move them to one GPU, set TRITON_INTERPRET=1 to "
            "run the kernels on the CPU (slow, for tests), or unset VTC_KERNELS."
        )
