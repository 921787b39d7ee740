"""Families that give actions: every method x both kernels works on them, or says why not."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import transformers

import vtc
from vtc.compat import parse
from vtc.core.stage import Encoder, Projector

from support.policies import build_pi0, pi0_inputs, pi0_oracle

METHODS = vtc.list_methods()
OPTIONS = {"vla-pruner": {"warmup": "semantic"}, "quota": {"frame_scores": "uniform"}}
PARAMETERS = [
    pytest.param(m, a, id=f"pi0-{m}-{a}", marks=() if (i % 2 == 0) == (a == "sdpa") else pytest.mark.slow)
    for i, m in enumerate(METHODS)
    for a in ("sdpa", "eager")
]
pytestmark = pytest.mark.skipif(parse(transformers.__version__) < parse("5.20.0"), reason="pi0 needs transformers 5.20")


@functools.cache
def model_of(attention: str) -> Any:
    return build_pi0(attention)


@functools.cache
def unpatched(attention: str) -> torch.Tensor:
    return model_of(attention).sample_actions(**pi0_inputs(1))


@pytest.mark.parametrize(("method", "attention"), PARAMETERS)
def test_matrix(record_property, method, attention):
    """keep=1: the same bits; keep=0.4: what the masked model does, or for merged tokens what each row does alone."""
    model, inputs, expected = model_of(attention), pi0_inputs(1), unpatched(attention)
    try:
        handle = vtc.patch(model, method, keep=1.0, **OPTIONS.get(method, {}))
    except ValueError as error:
        assert len(str(error)) > 40
        record_property("refused", str(error))
        return
    try:
        assert torch.equal(model.sample_actions(**inputs), expected)
        handle.keep = 0.4
        handle.reset()
        found = model.sample_actions(**inputs)
        record = handle.last
        assert 0 < record.after < record.before == 48
        assert handle.report().to_dict()["visual_tokens"]["after"] == record.after
        if any(log.raw_groups is not None for log in record.images):
            alone(model, handle, inputs, found)
        else:
            assert (found - pi0_oracle(model, handle, inputs)).abs().max() < 3e-5
        early = any(isinstance(s.at, Encoder | Projector) for s in handle.methods[0].stages(handle.facts))
        assert (record.layers[0][1] < record.sequence) == early
    finally:
        vtc.unpatch(model)
    assert torch.equal(model.sample_actions(**inputs), expected)


def alone(model: Any, handle: Any, inputs: dict[str, torch.Tensor], found: torch.Tensor) -> None:
    """Rows of a batch give what they give by themselves, without padded cameras and padded text."""
    for row, (cameras, length) in enumerate([(2, 39), (1, 21)]):
        one = {k: v[row : row + 1] for k, v in inputs.items()}
        one |= {k: one[k][:, :cameras] for k in ("pixel_values", "pixel_attention_mask")}
        one |= {k: one[k][:, :length] for k in ("input_ids", "attention_mask")}
        assert (model.sample_actions(**one)[0] - found[row]).abs().max() < 3e-5
