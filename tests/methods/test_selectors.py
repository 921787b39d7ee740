"""What holds for every method that acts between projector and language model."""

import pytest
import torch

from vtc.core.stage import ModelFacts, Projector
from vtc.methods import list_methods, make_method

from support.oracles.views import plain_view

FACTS = ModelFacts("test", 24, 22, True, tuple(range(24)), 32, True)
METHODS = [name for name in list_methods() if any(isinstance(s.at, Projector) for s in make_method(name).stages(FACTS))]


def stage_of(name, **options):
    return next(s for s in make_method(name, **options).stages(FACTS) if isinstance(s.at, Projector))


def image(stage, seed, n=(5, 7), dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    count = n[0] * n[1]
    x = (4 * torch.randn(count, 16, generator=generator)).to(device, dtype)
    stats = {}
    for need in stage.needs:
        stats[need] = torch.randn(count, generator=generator).softmax(0).to(device)
    video = stage.modalities == ("video",)
    view = plain_view(x, stage.keep_count, stats, (n[0], 1, n[1]) if video else (1, *n))
    for name in ("unit", "part", "cell", "role"):
        setattr(view, name, getattr(view, name).to(device))
    return view


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", METHODS)
def test_every_dtype(name, dtype):
    stage = stage_of(name, keep=0.3)
    view = image(stage, 0, dtype=dtype)
    before = view.features.clone()
    found = stage.select(view)
    assert bool((found.keep.diff() > 0).all()) and 1 <= len(found.keep) <= stage.keep_count(35) + 3
    assert found.values is None or (found.values.dtype == dtype and len(found.values) == len(found.keep))
    assert torch.equal(view.features, before)


@pytest.mark.parametrize("name", METHODS)
def test_full_share_is_a_no_op(name):
    stage = stage_of(name, keep=1.0)
    view = image(stage, 1)
    found = stage.select(view)
    assert found.keep.tolist() == list(range(35))
    assert found.values is None or torch.equal(found.values, view.features)


@pytest.mark.parametrize("name", METHODS)
def test_one_image_decides_the_same_after_another(name):
    stage = stage_of(name, keep=0.3)
    first = stage.select(image(stage, 2)).keep
    stage.select(image(stage, 3, (4, 9)))
    assert torch.equal(stage.select(image(stage, 2)).keep, first)


@pytest.mark.parametrize("name", METHODS)
def test_features_that_need_gradients(name):
    stage = stage_of(name, keep=0.3)
    view = image(stage, 4)
    view.features.requires_grad_(True)
    found = stage.select(view)
    if found.values is not None:
        found.values.sum().backward()
        assert view.features.grad is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", METHODS)
def test_gpu_decides_as_the_cpu(name):
    stage = stage_of(name, keep=0.3)
    cpu, gpu = stage.select(image(stage, 5)), stage.select(image(stage, 5, device="cuda"))
    assert gpu.keep.device.type == "cuda"
    assert gpu.keep.tolist() == cpu.keep.tolist()
    if cpu.values is not None:
        torch.testing.assert_close(gpu.values.cpu(), cpu.values, atol=1e-4, rtol=1e-4)
