"""Copies of a patched model are patched models of their own; one that is unpatched and let go is gone."""

from __future__ import annotations

import copy
import gc
import io
import json
import pickle
import subprocess
import sys
import weakref

import pytest
import torch

import vtc

from support import oracle, tiny

METHODS = ["vtc-cls", "divprune", "fastv", "transprune", "todre"]


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def answers(model, inputs):
    return oracle.new_tokens_of(oracle.generate(model, inputs).sequences, inputs)


@pytest.mark.parametrize("way", [pickled, saved, copy.deepcopy], ids=lambda way: way.__name__)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llava-clip", "qwen2_5_vl"])
def test_a_copy_is_patched_as_its_original_and_on_its_own(name, method, way):
    model, inputs = tiny.CASES[name].build(), tiny.batch(tiny.CASES[name])
    plain = answers(copy.deepcopy(model), inputs)
    handle = vtc.patch(model, method, keep=0.3)
    twin = way(model)
    own = twin.__dict__["_vtc_handle"]
    assert own is not handle and own.model is twin
    pruned = answers(model, inputs)
    before = handle.last
    assert torch.equal(answers(twin, inputs), pruned)
    assert handle.last is before and own.last is not before
    assert [i.kept.tolist() for i in own.last.images] == [i.kept.tolist() for i in before.images]
    own.remove()
    assert torch.equal(answers(twin, inputs), plain)
    assert torch.equal(answers(model, inputs), pruned)


ELSEWHERE = """
import json, pickle, sys, torch
from vtc.proof.models import all_cases
torch.set_num_threads(1)
all_cases()["llava-clip"].build()  # transformers learns of the outputs of its classes where one is made
with open(sys.argv[1], "rb") as file:
    model, inputs = pickle.load(file)
tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False)
kept = [i.kept.tolist() for i in model.__dict__["_vtc_handle"].last.images]
print(json.dumps([tokens.tolist(), kept]))
"""


def test_another_process_prunes_as_well(tmp_path):
    """As a spawned worker gets it: a fresh interpreter that has nothing but the pickle."""
    model, inputs = tiny.CASES["llava-clip"].build(), tiny.batch(tiny.CASES["llava-clip"])
    handle, file = vtc.patch(model, "fastv", keep=0.3), tmp_path / "model.pickle"
    file.write_bytes(pickle.dumps((model, inputs)))
    run = subprocess.run([sys.executable, "-c", ELSEWHERE, file], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-2000:]
    tokens = model.generate(**inputs, max_new_tokens=4, do_sample=False).tolist()
    assert json.loads(run.stdout.splitlines()[-1]) == [tokens, [i.kept.tolist() for i in handle.last.images]]


@pytest.mark.parametrize("method", [None, *METHODS])
def test_weights_go_when_an_unpatched_model_is_let_go(method):
    """Without the help of the cyclic collector."""
    from vtc.engine.seams import kernels

    model, inputs = tiny.CASES["llava-clip"].build(), tiny.batch(tiny.CASES["llava-clip"])
    gc.collect()
    gc.disable()
    try:
        handle = vtc.patch(model, method, keep=0.3) if method else None
        answers(model, inputs)
        if method:
            vtc.unpatch(model)
        alive = weakref.ref(model.get_input_embeddings().weight)
        del model
        assert alive() is None
    finally:
        gc.enable()
    if handle is not None:
        with pytest.raises(ValueError, match="is no more"):
            _ = handle.model
    assert not [name for name in kernels() if "vtc" in name]


def test_a_patched_model_that_is_let_go_leaves_no_kernel_behind():
    from vtc.engine.seams import kernels

    model, inputs = tiny.CASES["llava-clip"].build(), tiny.batch(tiny.CASES["llava-clip"])
    vtc.patch(model, "fastv", keep=0.3)
    answers(model, inputs)
    del model
    gc.collect()
    assert not [name for name in kernels() if "vtc" in name]
