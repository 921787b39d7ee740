"""Flex attention prunes as the default kernel does, in the prefill and with block masks of the caller's own."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

import vtc

from support import oracle, tiny


@functools.cache
def trouble(steps: bool) -> str:
    """Why flex attention cannot run here, unpatched; empty when it can."""
    model = tiny.CASES["llava-clip"].build()
    model.set_attn_implementation("flex_attention")
    inputs = tiny.alone(tiny.CASES["llava-clip"], 2)
    try:
        with torch.no_grad():
            model(**inputs)
            if steps:
                model.generate(**inputs, max_new_tokens=2, do_sample=False)
    except Exception as error:  # whatever the compiler of this machine says
        return f"flex attention does not compile here, unpatched: {type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


@pytest.fixture
def flex(tiny_model):
    if trouble(False):
        pytest.skip(trouble(False))
    return tiny_model("llava-clip", "flex_attention"), tiny_model("llava-clip"), tiny.batch(tiny.CASES["llava-clip"])


@pytest.mark.parametrize("method", [pytest.param("before", marks=pytest.mark.slow), "inside"])  # compilers take long
def test_prefill_equals_masking(flex, method):
    model, plain, inputs = flex
    probe = oracle.Norms(keep=0.4) if method == "before" else oracle.Norms(before=False, cuts=((2, 0.5),))
    with torch.no_grad():
        with vtc.patched(model, probe) as handle:
            found = model(**inputs).logits
        alive = oracle.alive_by_layer(inputs, handle.last, 4)
        with oracle.masked(plain, alive):
            want = plain(**inputs, use_cache=False).logits
    assert (found - want)[alive[-1]].abs().max() < 1e-4


@pytest.mark.slow
def test_a_block_mask_of_the_callers_own(flex):
    """Pairs that are further apart than 9 columns are closed, images and text alike."""
    model, plain, _ = flex
    inputs = {k: v for k, v in tiny.alone(tiny.CASES["llava-clip"], 0).items() if k != "attention_mask"}
    length = inputs["input_ids"].shape[1]

    def near(b, h, q, k):
        return (q >= k) & (q - k <= 9)

    block = create_block_mask(near, 1, None, length, length, device="cpu", _compile=False)
    place = torch.arange(length)
    seen = near(0, 0, place[:, None], place[None])[None, None]
    with torch.no_grad():
        with vtc.patched(model, oracle.Norms(before=False, cuts=((2, 0.5),))) as handle:
            found = model(**inputs, attention_mask=block, use_cache=False).logits
        full = {**inputs, "attention_mask": torch.ones(1, length, dtype=torch.long)}
        alive = oracle.alive_by_layer(full, handle.last, 4)
        with oracle.masked(plain, alive):
            want = plain(**inputs, attention_mask=seen, use_cache=False).logits
    where = alive[-1] & (seen[0, 0] & alive[2]).any(1)[None]
    assert (found - want)[where].abs().max() < 1e-4


@pytest.mark.slow
def test_steps_equal_those_of_the_default_kernel(flex):
    if trouble(True):
        pytest.skip(trouble(True))
    model, plain, inputs = flex
    found = []
    for one in (model, plain):
        with vtc.patched(one, oracle.Norms(keep=0.6, cuts=((2, 0.5),))):
            found.append(oracle.generate(one, inputs, max_new_tokens=3))
    assert torch.equal(found[0].sequences, found[1].sequences)
