"""Geometry of the families: which patches stand behind each feature row, and pruning inside their towers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import vtc
from vtc.adapters import FeatureCall
from vtc.core.layout import Role

from support import oracle, tiny, tiny_families
from support.features import ARGUMENTS, bumped, encode, tower_call
from support.towers import InsideTower, Probe, masked_tower

FAMILIES = list(tiny_families.FAMILIES)
INTERPOLATED = "llava_onevision-shrunk"


def modality_of(inputs: dict[str, Tensor]) -> str:
    return "video" if "pixel_values_videos" in inputs and "pixel_values" not in inputs else "image"


@pytest.mark.parametrize("name", FAMILIES)
def test_feature_rows_follow_the_patches_the_adapter_names(tiny_model, name):
    """Changing the tower's output at the patches of one row changes that row of the features alone."""
    model, case = tiny_model(name), tiny_families.ALL[name]
    inputs, adapter = tiny.alone(case, 1), vtc.find_adapter(model)
    modality = modality_of(inputs)
    call, shape = tower_call(model, adapter, inputs, modality)
    if name == INTERPOLATED:
        with pytest.raises(ValueError, match="interpolation"):
            adapter.patch_index(model, call)
        return
    index = adapter.patch_index(model, call)
    blocks = adapter.tower_blocks(model, modality)
    last = blocks[adapter.feature_layer(model, len(blocks))]
    with torch.no_grad():
        base = encode(model, inputs, modality)
        assert index.shape[0] == base.shape[0] == sum(u.length for u in adapter.units(model, call))
        for row in range(0, base.shape[0], 7):
            bump = torch.zeros(call.shape[0] * call.shape[1], 1)
            bump[index[row][index[row] >= 0]] = 100.0
            hook = last.register_forward_hook(lambda m, a, out, bump=bump: bumped(out, bump, shape), prepend=True)
            moved = encode(model, inputs, modality)
            hook.remove()
            change = (moved - base).abs().sum(1) > 1e-4
            assert change.nonzero()[:, 0].tolist() == ([row] if index[row, 0] >= 0 else [])


@pytest.mark.parametrize("name", FAMILIES)
def test_lattices_fit_the_rows(tiny_model, name):
    model, case = tiny_model(name), tiny_families.ALL[name]
    inputs, adapter = tiny.batch(case), vtc.find_adapter(model)
    for modality in adapter.modalities:
        if ARGUMENTS[modality][0] not in inputs:
            continue
        call, _ = tower_call(model, adapter, inputs, modality)
        for unit in adapter.units(model, call):
            unit = unit.filled()
            patches = unit.role == Role.PATCH
            assert len(unit.part) == len(unit.cell) == len(unit.role) == unit.length
            assert (unit.cell[patches] >= 0).all() and (unit.cell[~patches] == -1).all()
            areas = torch.tensor([h * w for h, w in unit.part_grids])
            assert (unit.cell < areas[unit.part]).all()
            pairs = set(zip(unit.part[patches].tolist(), unit.cell[patches].tolist(), strict=True))
            assert name == INTERPOLATED or len(pairs) == int(patches.sum())


def test_tiles_lie_where_the_image_is(tiny_model):
    """Anyres: newlines end the rows, partitions are the base crop and tiles, boxes are fractions of the image."""
    model, case = tiny_model("llava_next"), tiny_families.ALL["llava_next"]
    with vtc.patched(model, Probe(stat="class_row", layers=(1,))) as handle, torch.no_grad():
        model(**tiny.alone(case, 1))
    wide, square = (log.unit for log in handle.last.images)
    assert wide.info["tile_grid"] == (1, 2) and square.info["tile_grid"] == (2, 2)
    # 20 x 48 fits 24 x 48 at full width: 24 - 20 = 4 pixels of padding, no whole patch on either side
    assert wide.part_grids == ((6, 6),) * 3 and wide.info["local_w"] == 13
    assert wide.role.tolist() == [0] * 36 + ([0] * 12 + [1]) * 6
    assert wide.part.tolist()[36:49] == [1] * 6 + [2] * 7
    assert wide.cell.tolist()[36:49] == [*range(6), *range(6), -1]
    assert wide.info["boxes"][1] == pytest.approx((0.0, -0.1, 0.5, 1.1))
    assert square.info["boxes"][4] == pytest.approx((0.5, 0.5, 1.0, 1.0))
    (stats,) = handle.last.images[0].unit.info["part_stats"].values()
    assert [len(s) for s in stats] == [36] * 3


@pytest.mark.parametrize("name", ["llava_next", INTERPOLATED, "llava_onevision-video"])
def test_newlines_have_no_statistic(tiny_model, name):
    model, case = tiny_model(name), tiny_families.ALL[name]
    probe = Probe(stat="received", layers=(1,))
    with vtc.patched(model, probe) as handle, torch.no_grad():
        model(**tiny.alone(case, 1))
    for log, (stat,) in zip(handle.last.images, probe.seen, strict=True):
        assert torch.equal(stat.isnan(), log.unit.role == Role.NEWLINE)
        assert stat.isnan().any()


def test_a_shrunk_map_carries_a_constant_as_a_constant(tiny_model):
    """Interpolation of statistics is that of the features: weights sum to one."""
    model, case = tiny_model(INTERPOLATED), tiny_families.ALL[INTERPOLATED]
    adapter, inputs = vtc.find_adapter(model), tiny.alone(case, 0)
    call = FeatureCall("image", {"image_sizes": inputs["image_sizes"]})
    raw = torch.full((5, 36), 0.25)
    carried = adapter.carry(model, call, vtc.core.stage.Need("vision", 0, "received"), [raw])
    assert torch.allclose(carried[~carried.isnan()], torch.tensor(0.25))
    assert len(carried) == adapter.units(model, call)[0].length


# encoder pruning needs whole patches per row; windowed and packed towers, merges, tiles, two towers and M-RoPE
PRUNED = ["llava_next", "llava_onevision-video", "llava_next_video-video", "video_llava-video", "qwen2_vl", "glm4v",
          "video_llama_3", "internvl", "gemma3", "mistral3", "idefics3", "gemma4"]  # fmt: skip


@pytest.mark.parametrize("name", PRUNED)
def test_pruning_inside_the_tower_equals_masking_there(tiny_model, name):
    model, case = tiny_model(name), tiny_families.ALL[name]
    inputs, adapter = tiny.batch(case), vtc.find_adapter(model)
    present = [m for m in adapter.modalities if ARGUMENTS[m][0] in inputs]
    with torch.no_grad(), vtc.patched(model, InsideTower(keep=0.5)) as handle:
        oracle.generate(model, inputs, max_new_tokens=2)
        record = handle.last
        features = {m: encode(model, inputs, m) for m in present}
    with torch.no_grad(), masked_tower(model, adapter, inputs, record, layer=1):
        expected = {m: encode(model, inputs, m) for m in present}
    start = dict.fromkeys(present, 0)
    assert record.after < record.before
    for image in record.images:
        patches = image.kept[(image.unit.filled().role[image.kept] == Role.PATCH)]
        rows = start[image.modality] + patches
        start[image.modality] += image.before
        assert (features[image.modality][rows] - expected[image.modality][rows]).abs().max() < 3e-5


def test_pruning_inside_the_tower_is_refused_where_features_are_interpolated(tiny_model):
    model, case = tiny_model(INTERPOLATED), tiny_families.ALL[INTERPOLATED]
    with vtc.patched(model, InsideTower(keep=0.5)), pytest.raises(ValueError, match="interpolation"):
        model(**tiny.batch(case))


@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_vl_moe"])
@pytest.mark.parametrize("cuts", [((1, 0.5),), ((2, 0.5), (3, 0.6))])
def test_rows_added_to_early_layers_reach_the_kept_tokens(tiny_model, name, cuts):
    """Deepstack adds rows after layers 0 .. 2; the cuts fall in between."""
    model, case = tiny_model(name), tiny_families.ALL[name]
    inputs = tiny.batch(case)
    for before in (True, False):
        with vtc.patched(model, oracle.Norms(keep=0.6, cuts=cuts, before=before)) as handle:
            out = oracle.generate(model, inputs, max_new_tokens=4)
        expected = oracle.oracle_logits(model, inputs, handle.last, oracle.new_tokens(out, inputs))
        assert (torch.stack(out.logits, 1) - expected).abs().max() < 3e-5


def test_cuts_before_linear_attention_are_refused(tiny_model):
    with pytest.raises(ValueError, match="linear attention"):
        vtc.patch(tiny_model("qwen3_5"), oracle.Norms(before=False, cuts=((1, 0.5),)))


@pytest.mark.parametrize("name", ["gemma3", "paligemma"])  # paligemma2 has no static cache in transformers 5.23
def test_static_caches_keep_the_blocks_that_attend_both_ways(tiny_model, name):
    model, case = tiny_model(name), tiny_families.ALL[name]
    inputs = tiny.batch(case)
    with vtc.patched(model, oracle.Norms(keep=0.6, cuts=((2, 0.5),))):
        dynamic = oracle.generate(model, inputs)
        static = oracle.generate(model, inputs, cache_implementation="static")
    assert torch.equal(dynamic.sequences, static.sequences)
    assert max((a - b).abs().max() for a, b in zip(dynamic.logits, static.logits, strict=True)) < 3e-5


def test_rows_the_processor_has_dropped_already(tiny_model):
    """VideoLLaMA3 processors leave out video rows that repeat: units shrink, and the rest is pruned as ever."""
    model, case = tiny_model("video_llama_3"), tiny_families.ALL["video_llama_3"]
    inputs = dict(tiny.alone(case, 1))  # a video of 2 frames, 16 tokens each
    kept = torch.ones(32, dtype=torch.bool)
    kept[16::3] = False
    columns = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    columns[inputs["input_ids"] == tiny.VID] = kept
    for key in ("input_ids", "attention_mask"):
        inputs[key] = inputs[key][columns][None]
    inputs["video_compression_mask"] = kept
    with vtc.patched(model, oracle.Norms(keep=0.5, cuts=((2, 0.5),))) as handle:
        out = oracle.generate(model, inputs)
    (log,) = handle.last.images
    unit = log.unit.filled()
    assert log.before == 26 and unit.part.tolist() == [0] * 16 + [1] * 10
    assert unit.cell[16:].tolist() == [i for i in range(16) if i % 3]
    expected = oracle.oracle_logits(model, inputs, handle.last, oracle.new_tokens(out, inputs))
    assert (torch.stack(out.logits, 1) - expected).abs().max() < 3e-5
