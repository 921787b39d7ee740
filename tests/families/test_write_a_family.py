"""The families of docs/write-a-family.md: the page's own code, on tiny models, against brute force."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import torch

import vtc
from vtc.adapters import list_adapters
from vtc.proof.models.cases import GRIDS, case
from vtc.proof.models.configs import GLM_MARKS, SPATIAL, grid_vision, rope_text
from vtc.proof.models.pieces import Prompts, packed

from support import oracle, tiny, tiny_families
from support.features import bumped, encode, tower_call

PAGE = Path(__file__).parents[2] / "docs" / "write-a-family.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def glm46v():
    prompts = Prompts(partial(packed, 96, frames=True, token=tiny.IMG), types=True)
    text = rope_text(**SPATIAL)
    return case("glm46v", GRIDS, prompts, "Glm46V", grid_vision(image_size=32), text, **GLM_MARKS)


def internvl():
    return tiny_families.ALL["internvl"]


SETUPS = {"glm46v": (BLOCKS[0], glm46v), "shuffled": (BLOCKS[1], internvl)}


def patched_by_the_page(code, model):
    """Adapter that the page's code patches ``model`` with; the patch is taken off."""
    names = {"vtc": vtc, "model": model}
    exec(compile(code, str(PAGE), "exec"), names)
    names["handle"].remove()
    return names["handle"].adapter


@pytest.fixture(params=list(SETUPS))
def setup(request):
    """Family of the page: tiny model, inputs, and the adapter that the page's code has patched it with."""
    code, make = SETUPS[request.param]
    made = make()
    model = made.build()
    adapter = patched_by_the_page(code, model)
    assert adapter.family == request.param
    return model, made, adapter


def test_the_page_fits_its_promise():
    assert len(BLOCKS) == len(SETUPS)
    assert all(len(code.splitlines()) <= 30 for code in BLOCKS)
    assert "glm46v" not in {kind for adapter in list_adapters() for kind in adapter.model_types}


def test_every_row_follows_its_patches(setup):
    model, made, adapter = setup
    inputs = tiny.alone(made, 1)
    call, shape = tower_call(model, adapter, inputs, "image")
    index, blocks = adapter.patch_index(model, call), adapter.tower_blocks(model)
    last = blocks[adapter.feature_layer(model, len(blocks))]
    with torch.no_grad():
        base = encode(model, inputs, "image")
        assert index.shape[0] == base.shape[0] == sum(unit.length for unit in adapter.units(model, call))
        for row in range(base.shape[0]):
            bump = torch.zeros(call.shape[0] * call.shape[1], 1)
            bump[index[row]] = 100.0
            hook = last.register_forward_hook(lambda m, a, out, bump=bump: bumped(out, bump, shape), prepend=True)
            moved = encode(model, inputs, "image")
            hook.remove()
            assert ((moved - base).abs().sum(1) > 1e-4).nonzero()[:, 0].tolist() == [row]


@pytest.mark.parametrize("method", ["vtc-cls", "fastv"])
def test_pruned_equals_masked(setup, method):
    """Masking moves no token, so the positions are kept for the comparison."""
    model, made, adapter = setup
    inputs = tiny.batch(made)
    with vtc.patched(model, method, keep=0.4, positions="keep", adapter=adapter) as handle:
        out = oracle.generate(model, inputs)
        assert handle.last.after < handle.last.before
    expected = oracle.oracle_logits(model, inputs, handle.last, oracle.new_tokens(out, inputs))
    assert (torch.stack(out.logits, 1) - expected).abs().max() < 3e-5


def test_all_of_it_changes_nothing(setup):
    model, made, adapter = setup
    inputs = tiny.batch(made)
    plain = oracle.generate(model, inputs)
    with vtc.patched(model, "vtc-cls", keep=1.0, adapter=adapter):
        out = oracle.generate(model, inputs)
    assert all(torch.equal(a, b) for a, b in zip(out.logits, plain.logits, strict=True))


def test_without_it_the_generic_adapter_says_why_not():
    made = glm46v()
    with vtc.patched(made.build(), "vtc-cls", keep=0.4) as handle, pytest.raises(ValueError, match="adapter="):
        handle.model(**tiny.batch(made))


def test_the_written_geometry_is_the_declared_one():
    """InternVL's own declaration names the same patches and the same lattices."""
    model = internvl().build()
    own, ours = patched_by_the_page(BLOCKS[1], model), vtc.find_adapter(model)
    call, _ = tower_call(model, ours, tiny.alone(internvl(), 1), "image")
    assert torch.equal(own.patch_index(model, call), ours.patch_index(model, call))
    assert own.units(model, call) == ours.units(model, call)
