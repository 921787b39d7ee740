"""Samples packed into one row: the logits of each are those of the sample alone, or the method is refused."""

from __future__ import annotations

import pytest
import torch

import vtc

from support import tiny, tiny_families

MROPE = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"]
LOCAL = ["divprune", "hired", "pool", "vflowopt", "visionzip", "vtc-cls"]
WIDE = ["fastv", "pyramiddrop", "todre", "transprune"]


def samples(name):
    case = tiny_families.ALL[name]
    image = ("image", (1, 8, 8)) if name in MROPE else "image"
    return [case.inputs([sample], [i]) for i, sample in enumerate(([3, image, 4], [2, image, 3, image, 5]))]


def packed(model, parts, text_positions=True):
    """One row of all samples, with position ids that start again, and a block-diagonal 4-D mask."""
    names = [k for k in parts[0] if k != "attention_mask"]
    rows = {k: torch.cat([p[k] for p in parts], int(k.endswith("ids"))) for k in names}
    places = []
    for part in parts:
        flat = torch.arange(part["input_ids"].shape[1])[None]
        if hasattr(model.model, "get_rope_index"):
            taken = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
            grid, _ = model.model.get_rope_index(**{k: part[k] for k in taken})
            flat = torch.cat([flat[None], grid]) if text_positions else grid
        places.append(flat)
    lengths = [p["input_ids"].shape[1] for p in parts]
    mask = torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()[None, None]
    return {**rows, "position_ids": torch.cat(places, -1)}, mask


def text_of(parts):
    """Columns of text, per sample and in the packed row."""
    start = 0
    for part in parts:
        inside = (part["input_ids"][0] >= 20).nonzero()[:, 0]
        yield inside, start + inside
        start += part["input_ids"].shape[1]


@pytest.mark.parametrize("way", ["positions", "mask", "additive mask"])
@pytest.mark.parametrize("name", ["llava-clip", "llava-qwen3", *MROPE])
def test_packed_samples_are_those_alone(tiny_model, name, way):
    model, parts = tiny_model(name), samples(name)
    rows, mask = packed(model, parts, way == "positions")
    extra = {} if way == "positions" else {"attention_mask": mask}
    if way == "additive mask":
        extra = {"attention_mask": torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)}
    for method in LOCAL:
        with torch.no_grad(), vtc.patched(model, method, keep=0.5) as handle:
            alone = [model(**part).logits[0] for part in parts]
            out = model(**rows, **extra, use_cache=False).logits[0]
            assert handle.last.after < handle.last.before
        for (inside, place), logits in zip(text_of(parts), alone, strict=True):
            assert (out[place] - logits[inside]).abs().max() < 3e-5, (method, way)


@pytest.mark.parametrize("way", ["positions", "mask"])
@pytest.mark.parametrize("name", ["llava-clip", "qwen2_5_vl"])
def test_methods_that_decide_by_the_whole_row_are_refused(tiny_model, name, way):
    """The last token of the row sees nothing of the first sample's image, so it cannot rank it."""
    model, parts = tiny_model(name), samples(name)
    rows, mask = packed(model, parts)
    extra = {} if way == "positions" else {"attention_mask": mask}
    for method in WIDE:
        with torch.no_grad(), vtc.patched(model, method, keep=0.5):
            with pytest.raises(ValueError, match="several samples.*row of its own"):
                model(**rows, **extra, use_cache=False)


def test_rows_of_different_packs(tiny_model):
    """Ragged rows: what pads the shorter one belongs to no sample."""
    model, parts = tiny_model("llava-clip"), samples("llava-clip")
    rows, _ = packed(model, parts)
    turned, _ = packed(model, parts[::-1])
    short = {**rows, **{k: torch.cat([rows[k], turned[k]]) for k in ("input_ids", "position_ids", "pixel_values")}}
    # the second row's last image is dropped whole, text in its place
    images = (short["input_ids"][1] == tiny.IMG).nonzero()[:, 0]
    short["input_ids"][1, images[-36:]] = 41
    short["pixel_values"] = short["pixel_values"][:-1]
    with torch.no_grad(), vtc.patched(model, "divprune", keep=0.5):
        both = model(**short, use_cache=False).logits
        alone = [model(**part).logits[0] for part in parts]
    for (inside, place), logits in zip(text_of(parts), alone, strict=True):
        assert (both[0, place] - logits[inside]).abs().max() < 3e-5


def test_with_a_cache_nobody_tells_samples_apart_by_positions(tiny_model):
    """As unpatched: transformers looks at position ids only where there is no cache, and makes one by default."""
    model, parts = tiny_model("llava-clip"), samples("llava-clip")
    rows, _ = packed(model, parts)
    causal = torch.ones(1, 1, *rows["input_ids"].shape[1:] * 2, dtype=torch.bool).tril()
    with torch.no_grad(), vtc.patched(model, "divprune", keep=0.5):
        found = model(**rows).logits
        assert torch.allclose(found, model(**rows, attention_mask=causal).logits, atol=3e-5)
        assert not torch.allclose(found, model(**rows, use_cache=False).logits, atol=1e-2)
