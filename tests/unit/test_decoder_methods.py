"""Methods inside the language model against full-length masked forwards, on every kind of decoder."""

from __future__ import annotations

import oracle
import pytest
import tiny
import torch

import vtc
from vtc.methods.fastv import FastV
from vtc.methods.pyramiddrop import PyramidDrop
from vtc.methods.transprune import TransPrune

CASES = list(tiny.CASES)
METHODS = {
    "fastv": lambda: FastV(keep=0.5),
    "fastv renumbered": lambda: FastV(keep=0.3, layer=1, scope="image", positions="renumber"),
    "pyramiddrop": lambda: PyramidDrop(keep=0.2),
    "pyramiddrop kept positions": lambda: PyramidDrop(keep=9, scope="image", positions="keep"),
    "transprune": lambda: TransPrune(),
    "transprune three cuts": lambda: TransPrune(
        prune_layers=(1, 2, 3), accumulate_layers=(1, 2, 3), keep=0.2, positions="keep", domain="image"
    ),
    "transprune alone": lambda: TransPrune(preset="low", alpha=1.0, scope="image", direction="abs"),
}


def renumbering(name, methods):
    """How the oracle has to number positions; M-RoPE keeps them always."""
    if name.startswith("qwen2_5"):
        return False
    return {("renumber",): True, ("renumber", "keep"): "first"}.get(tuple(m.positions for m in methods), False)


def compare(model, case, methods, renumber, steps=17, tolerance=1e-5, **options):
    inputs = tiny.batch(case)
    with vtc.patched(model, methods) as handle:
        out = oracle.generate(model, inputs, max_new_tokens=steps, **options)
        record = handle.last
    assert record.after < record.before
    expected = oracle.oracle_logits(model, inputs, record, oracle.new_tokens(out, inputs), renumber)
    assert (torch.stack(out.logits, 1) - expected).abs().max() < tolerance
    return record


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_prefill_and_sixteen_steps_equal_masking(tiny_model, name, method, attention):
    methods = [METHODS[method]()]
    compare(tiny_model(name, attention), tiny.CASES[name], methods, renumbering(name, methods))
