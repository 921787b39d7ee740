"""Room for a proof inside somebody's process: plain float32 on the CPU, and nothing of the process's state changed."""

from __future__ import annotations

import logging
import random
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import numpy as np
import torch

_LOCK = threading.RLock()
_BUSY: ContextVar[bool] = ContextVar("vtc_proving", default=False)


def proving() -> bool:
    """Whether this thread is inside a proof, which patches models itself."""
    return _BUSY.get()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run one proof at a time, whatever modes and contexts are on; put everything back at the end.

    Default device and dtype, gradients, inference mode, autocast, precision of matrix products, generators of random
    numbers, filters of warnings, and what the logger of vtc says are those of the proof inside and the caller's after
    it.
    """
    with _LOCK, ExitStack() as stack:
        token = _BUSY.set(True)
        stack.callback(_BUSY.reset, token)
        stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))  # its tensors could not be written to
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast("cpu", enabled=False))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # somebody's "error" must not fail a proof
        stack.enter_context(_float32())
        stack.enter_context(_silent("vtc"))
        yield


@contextmanager
def _float32() -> Iterator[None]:
    """Float32 as default dtype and in products: "medium" precision computes in bfloat16 on some CPUs."""
    dtype, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    if dtype != torch.float32:
        torch.set_default_dtype(torch.float32)
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
        if dtype != torch.float32:
            torch.set_default_dtype(dtype)


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Drop what this thread logs: the patches of a proof are nobody's business."""
    logger, here = logging.getLogger(name), threading.get_ident()

    def elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != here

    logger.addFilter(elsewhere)
    try:
        yield
    finally:
        logger.removeFilter(elsewhere)
