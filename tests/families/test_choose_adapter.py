"""``adapter=`` and ``images=`` of ``vtc.patch``, and the names they had before."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import torch
import transformers as tf

import vtc
from vtc.adapters import Adapter, FeatureCall, Grid, Merged, MergedSizes, Plain, Positioned, list_adapters
from vtc.adapters.explicit import ExplicitAdapter

from support import tiny, tiny_families


class Own(Adapter):
    family = "own"
    video = None


class Asking(Adapter):
    def __init__(self, side: int) -> None:
        self.side = side


@pytest.fixture
def model(tiny_model):
    return tiny_model("llava-clip")


@pytest.fixture
def decoder():
    return tf.LlamaForCausalLM(tiny.decoder_config("llama")).eval()


@pytest.mark.parametrize("chosen", ["llava", Own, Own(), "generic", None])
def test_each_way_to_say_it(model, chosen):
    """The model is LLaVA, so all of them prune alike."""
    inputs = tiny.batch(tiny_families.ALL["llava-clip"])
    with torch.no_grad():
        with vtc.patched(model, "divprune", keep=0.25) as handle:
            expected = model(**inputs).logits
            kept = [image.kept for image in handle.last.images]
        with vtc.patched(model, "divprune", keep=0.25, adapter=chosen) as handle:
            assert torch.equal(model(**inputs).logits, expected)
            assert all(torch.equal(a.kept, b) for a, b in zip(handle.last.images, kept, strict=True))
    family = {None: "llava"}.get(chosen, chosen) if isinstance(chosen, str | None) else "own"
    assert handle.adapter.family == family
    assert not isinstance(chosen, Adapter) or handle.adapter is chosen


def test_a_model_type_is_a_name_too(tiny_model):
    with vtc.patched(tiny_model("smolvlm"), "pool", adapter="smolvlm") as handle:
        assert handle.adapter.family == "idefics3"


@pytest.mark.parametrize(
    ("chosen", "error", "text"),
    [
        ("lava", ValueError, r"adapter='lava'\. Did you mean 'llava'\? Known: .*internvl.*generic"),
        (7, TypeError, "adapter=7 is an int; pass the name of a family"),
        (dict, TypeError, r"pass the name of a family \(vtc\.list_families"),
        (Asking, TypeError, "adapter=Asking cannot be made without arguments .*'side'.*: pass an object of it"),
        ("pi0", TypeError, r"as family 'pi0': it has no get_image_features .* \(`model\.vlm`\)"),
        ("idefics3", TypeError, r"no decoder with `layers` behind base_model\.text_model\. Pass the adapter of its"),
    ],
)
def test_wrong_choices(model, chosen, error, text):
    with pytest.raises(error, match=text):
        vtc.patch(model, "pool", adapter=chosen)
    assert "_vtc_handle" not in model.__dict__


def test_a_wrong_family_is_noticed_when_it_encodes(model):
    inputs = tiny.batch(tiny_families.ALL["llava-clip"])
    with (
        vtc.patched(model, "pool", adapter="qwen2_vl"),
        pytest.raises(ValueError, match="without image_grid_thw.*got pix"),
    ):
        model(**inputs)


@pytest.mark.parametrize(
    ("geometry", "text"),
    [
        (MergedSizes(), "accounts for 9 feature rows, and LlavaForConditionalGeneration made 36 for this call"),
        (Grid(), "a CLIPVisionModel without spatial_merge_size"),
        (Positioned(), "no number 'vision_config.pooling_kernel_size'"),
    ],
)
def test_a_geometry_of_another_model_is_noticed(model, geometry, text):
    class Wrong(Own):
        image = geometry

    output = type("Output", (), {"pooler_output": torch.zeros(1, 36, 32)})()
    sizes, grid = torch.tensor([[12, 12]]), torch.tensor([[1, 6, 6]])
    call = FeatureCall("image", {"image_sizes": sizes, "image_grid_thw": grid, "image_position_ids": sizes}, output)
    with pytest.raises(ValueError, match=text + ".*Leave adapter= out"):
        Wrong().units(model, call)


def test_patches_the_tower_does_not_have_are_noticed(model):
    class Beyond(Plain):
        def patch_index(self, encoder, call):
            return super().patch_index(encoder, call) + 1

    class Wrong(Own):
        image = Beyond()

    inputs = tiny.alone(tiny_families.ALL["llava-clip"], 0)
    with (
        vtc.patched(model, "vtc-cls", adapter=Wrong),
        pytest.raises(ValueError, match="names row 37 of the tower, which"),
    ):
        model(**inputs)


def test_a_geometry_says_which_field_it_lacks(model):
    class Missing(Own):
        image = Merged(merge="vision_config.scale")

    inputs = tiny.batch(tiny_families.ALL["llava-clip"])
    with (
        vtc.patched(model, "pool", adapter=Missing),
        pytest.raises(ValueError, match=r"no number 'vision_config.scale' \(it has None\)"),
    ):
        model(**inputs)


def test_a_family_without_videos():
    assert Own().modalities == ("image",) and Adapter().modalities == ("image", "video")
    with pytest.raises(ValueError, match="'own' takes images, not 'video'"):
        Own().units(None, FeatureCall("video", {}))


def test_a_geometry_shows_what_was_declared():
    assert (
        repr(Plain()) == "Plain()" and repr(Grid(windowed=True, temporal=True)) == "Grid(temporal=True, windowed=True)"
    )
    assert Merged(merge=2) == Merged(merge=2) != Merged(merge=4)


@pytest.mark.parametrize("flags", [[True, False], [True] * 4 + [False] * 9])
def test_rows_that_do_not_enter_the_prompt(flags):
    """Flags count images, or else rows."""
    record = vtc.adapters.EncodeRecord("image", [vtc.core.layout.Unit("image", n) for n in (4, 9)])
    left = Plain(kept_by="there").scattered(record, {"there": torch.tensor(flags)})
    assert [unit.length for unit in left.units] == [4]
    with pytest.raises(ValueError, match="there has 3 flags, and 2 images of 13 tokens"):
        Plain(kept_by="there").scattered(record, {"there": [True] * 3})


# -- where images of a prompt of embeddings stand ---------------------------------------------------------------------


def test_columns_are_checked_numbers():
    columns = vtc.Columns(np.int64(1), [256, np.int32(196)], actions=7)
    assert columns == vtc.Columns(1, (256, 196), 7) and hash(columns) == hash(vtc.Columns(1, (256, 196), 7))
    assert columns.lengths == (256, 196) and columns.total == 452
    assert vtc.Columns(0, 16).length == (16,)
    with pytest.raises(AttributeError):
        columns.start = 2


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((-1, 16), ValueError, r"Columns\(start=-1\) is not allowed: pass a number >= 0"),
        ((1, 0), ValueError, r"Columns\(length=0\) is not allowed: pass a number >= 1"),
        ((1, (16, 0)), ValueError, r"length=0"),
        ((1, ()), ValueError, "at least one image"),
        ((1, 1.5), TypeError, r"Columns\(length=1\.5\) is a float; pass a whole number"),
        ((1, "16"), TypeError, r"length='16'\) is a str"),
        ((True, 16), TypeError, "start=True"),
        ((1, 16, -1), ValueError, "actions=-1"),
        ((1, 16, None), TypeError, "actions=None"),
    ],
)
def test_wrong_columns(arguments, error, text):
    with pytest.raises(error, match=text):
        vtc.Columns(*arguments)


def test_the_old_names_still_place_images(decoder):
    """Same pruning, with a warning that names the new one and points here."""
    embeds, found = tiny.noise(1, 24, 32, seed=1), []
    old, text = dict(image_start=1, image_length=(4, 9)), r"images=vtc\.Columns\(start=1, length=\(4, 9\), actions=0\)"

    @torch.no_grad()
    def run(handle):
        found.append((decoder(inputs_embeds=embeds).logits, handle.last.after))

    with vtc.patched(decoder, "divprune", keep=0.5, images=vtc.Columns(1, (4, 9))) as handle:
        run(handle)
    with pytest.warns(DeprecationWarning, match=text) as told:
        run(vtc.patch(decoder, "divprune", keep=0.5, **old))
        vtc.unpatch(decoder)
        with vtc.patched(decoder, "divprune", keep=0.5, **old) as handle:
            run(handle)
    assert [w.filename for w in told] == [__file__] * 2
    assert found[0][1] == 6
    assert all(torch.equal(out, found[0][0]) and after == 6 for out, after in found[1:])


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (dict(image_start=1), ValueError, r"belong together.*images=vtc\.Columns\(start, length\)"),
        (dict(image_length=16), ValueError, "belong together"),
        (dict(action_length=3), ValueError, "belong together"),
        (dict(image_start=-1, image_length=16), ValueError, "start=-1"),
        (dict(image_start=1, image_length=1.5), TypeError, "length=1.5"),
        (
            dict(image_start=1, image_length=16, images=vtc.Columns(1, 16)),
            TypeError,
            "leave out image_start, image_length",
        ),
    ],
)
def test_wrong_old_names(decoder, options, error, text):
    with pytest.raises(error, match=text):
        vtc.patch(decoder, "pool", **options)


def test_old_names_that_say_nothing_are_no_options(model):
    """Their old defaults, as wrappers hand them on."""
    with vtc.patched(model, "pool", image_start=None, image_length=None, action_length=0) as handle:
        assert handle.adapter.family == "llava"


def test_columns_in_an_adapter_of_its_own(decoder):
    columns = vtc.Columns(1, 16)
    with vtc.patched(decoder, "pool", adapter=ExplicitAdapter(columns)) as handle:
        assert handle.adapter.policy.columns == columns


def test_patched_takes_what_patch_takes():
    one, other = inspect.signature(vtc.patch), inspect.signature(vtc.patched)
    assert one.parameters == other.parameters and "images" in one.parameters and "adapter" in one.parameters
    assert "with" in vtc.patched.__doc__ and vtc.patched.__qualname__ == "patched"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'model'"), vtc.patched():
        pass


def test_list_models_is_list_families():
    with pytest.warns(DeprecationWarning, match=r"list_families\(\) now") as told:
        assert vtc.list_models() == vtc.list_families() == [a.family for a in list_adapters()]
    assert [w.filename for w in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vtc.list_families()
