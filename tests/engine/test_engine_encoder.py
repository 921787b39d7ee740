"""The encoder side: taps against recorded maps, feature rows against perturbed patches, pruning in the tower."""

from __future__ import annotations

import pytest
import torch

import vtc

from support import oracle, tiny
from support.towers import InsideTower, Probe, masked_tower


@pytest.mark.parametrize(
    ("name", "stat"), [("llava-clip", "class_row"), ("llava-clip", "received"), ("llava-siglip", "received")]
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_taps_equal_recorded_attention(tiny_model, name, stat, attention):
    model, case = tiny_model(name, "eager"), tiny.CASES[name]
    inputs = tiny.alone(case, 1)
    with torch.no_grad():
        maps = model.model.vision_tower(inputs["pixel_values"], output_attentions=True).attentions
        model = tiny_model(name, attention)
        plain = model(**inputs).logits
        probe = Probe(stat=stat)
        with vtc.patched(model, probe):
            assert torch.equal(model(**inputs).logits, plain)
    cut = 1 if name == "llava-clip" else 0
    for image, layers in enumerate(probe.seen):
        for layer, got in zip(probe.layers, layers, strict=True):
            full = maps[layer][image].mean(0)
            expected = full[0, 1:] if stat == "class_row" else full.mean(0)[cut:]
            assert (got - expected).abs().max() < 1e-6


@pytest.mark.parametrize("name", list(tiny.CASES))
def test_statistics_sit_on_the_rows_of_their_patches(tiny_model, name):
    """Perturbing the patches behind one feature row moves that row of the features most: the mapping is right."""
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.alone(case, 1)
    adapter = vtc.find_adapter(model)
    modality = "video" if "video" in name else "image"
    from vtc.adapters import FeatureCall

    names = dict(
        image=("pixel_values", "image_grid_thw", "image_sizes"), video=("pixel_values_videos", "video_grid_thw")
    )
    kwargs = {k: inputs[k] for k in names[modality] if k in inputs}
    encode = getattr(model.model, f"get_{modality}_features")
    shapes = []
    block = adapter.tower_blocks(model)[0]
    hook = block.register_forward_pre_hook(
        lambda m, a, k: shapes.append((a[0] if a else k["hidden_states"]).shape), with_kwargs=True
    )
    with torch.no_grad():
        base = torch.cat(list(encode(**kwargs).pooler_output))
    hook.remove()
    shape = shapes[0] if len(shapes[0]) == 3 else (1, *shapes[0])
    index = adapter.patch_index(model, FeatureCall(modality, kwargs, None, tuple(shape[:2])))
    assert index.shape[0] == base.shape[0]
    last = adapter.tower_blocks(model)[adapter.feature_layer(model, len(adapter.tower_blocks(model)))]
    for row in range(0, base.shape[0], 5):
        bump = torch.zeros(shape[0] * shape[1], 1)
        bump[index[row]] = 100.0
        bump = bump.view(*shape[:2], 1) if len(shapes[0]) == 3 else bump
        hook = last.register_forward_hook(
            lambda m, a, out, bump=bump: out + bump * torch.arange(out.shape[-1]), prepend=True
        )
        with torch.no_grad():
            moved = torch.cat(list(encode(**kwargs).pooler_output))
        hook.remove()
        change = (moved - base).abs().sum(1)
        assert change[row] > 0
        assert (change > 1e-4).sum() == 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", list(tiny.CASES))
def test_pruning_inside_the_tower_equals_masking_there(tiny_model, name, attention):
    """Kept feature rows equal those of a full run with the dropped patches masked as keys from that block on."""
    model, case = tiny_model(name, attention), tiny.CASES[name]
    inputs = tiny.batch(case)
    adapter = vtc.find_adapter(model)
    with torch.no_grad(), vtc.patched(model, InsideTower(keep=0.5)) as handle:
        out = oracle.generate(model, inputs, max_new_tokens=3)
        record = handle.last
        for i in range(len(case.samples)):
            one = tiny.alone(case, i)
            solo = oracle.new_tokens(oracle.generate(model, one, max_new_tokens=3), one)
            assert torch.equal(solo[0], oracle.new_tokens(out, inputs)[i])
        features = _features(model, inputs)
    assert record.after == sum(max(1, round(0.5 * i.before)) for i in record.images)
    with torch.no_grad(), masked_tower(model, adapter, inputs, record, layer=1):
        expected = _features(model, inputs)
    start = dict.fromkeys(features, 0)
    for image in record.images:
        rows = start[image.modality] + image.kept
        start[image.modality] += image.before
        assert (features[image.modality][rows] - expected[image.modality][rows]).abs().max() < 3e-5


def _features(model, inputs):
    out = {}
    if "pixel_values" in inputs:
        keys = [k for k in ("pixel_values", "image_grid_thw", "image_sizes") if k in inputs]
        out["image"] = torch.cat(list(model.model.get_image_features(**{k: inputs[k] for k in keys}).pooler_output))
    if "pixel_values_videos" in inputs:
        keys = ("pixel_values_videos", "video_grid_thw")
        out["video"] = torch.cat(list(model.model.get_video_features(**{k: inputs[k] for k in keys}).pooler_output))
    return out


@pytest.mark.parametrize("name", ["llava-clip", "llava-siglip", "llava-pixtral", "qwen2_5_vl-video"])
def test_focus_and_entropy_reach_vflowopt(tiny_model, name):
    """VFlowOpt's two-pass statistic and its entropy arrive per image: the batch keeps what each sample keeps alone."""

    class Processor:
        image_mean = image_std = (0.5, 0.5, 0.5)

    model, case = tiny_model(name), tiny.CASES[name]
    options = dict(keep=0.4, t=1.2, alpha=0.0 if name == "llava-pixtral" else 0.7, recycling=False)
    with torch.no_grad(), vtc.patched(model, "vflowopt", processor=Processor(), **options) as handle:
        model(**tiny.batch(case))
        together = {(i.row, i.image): (i.kept, i.scores) for i in handle.last.images}
        for row in range(2):
            model(**tiny.alone(case, row))
            for i in handle.last.images:
                kept, scores = together[row, i.image]
                assert torch.equal(kept, i.kept)
                assert torch.allclose(scores, i.scores, atol=1e-6)
                # rows of attention sum to 1; a merge group takes the mean of its 4; the column of [CLS] is cut
                attention = 0.25 if name.startswith("qwen") else 1.0
                total = len(i.unit.filled().part_grids) * (attention + options["alpha"])
                assert scores.sum() < total if name == "llava-clip" else abs(scores.sum() - total) < 1e-4


def test_entropy_needs_the_processor(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    with vtc.patched(model, "vflowopt", alpha=0.5), pytest.raises(ValueError, match="pass processor"):
        model(**tiny.batch(case))
