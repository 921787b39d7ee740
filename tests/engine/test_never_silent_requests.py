"""What a caller asks for changes no logits: columns, maps, hidden states, embeddings of their own, NaN features."""

from __future__ import annotations

import warnings

import pytest
import torch

import vtc

from support import oracle, tiny
from support.requests import VIDEO_ONLY, case_of

TEXT_GUIDED = ["fastv", "pyramiddrop", "transprune", "todre"]
NAMES = ["llava-clip", "qwen2_5_vl"]


def kept(handle, row=None):
    return [i.kept.tolist() for i in handle.last.images if row in (None, i.row)]


@pytest.mark.parametrize("method", [*TEXT_GUIDED, "vtc-cls"])
@pytest.mark.parametrize("name", NAMES)
def test_a_number_of_logits_is_the_same_request_as_their_places(tiny_model, name, method):
    model, inputs = tiny_model(name), tiny.alone(tiny.CASES[name], 1)
    length = inputs["input_ids"].shape[1]
    with torch.no_grad(), vtc.patched(model, method, keep=0.4) as handle:
        full = model(**inputs).logits
        chosen = kept(handle)
        for request in (length, torch.arange(length), torch.arange(length) - length):
            assert torch.allclose(model(**inputs, logits_to_keep=request).logits, full, atol=3e-5)
            assert kept(handle) == chosen
        assert torch.allclose(model(**inputs, logits_to_keep=1).logits, full[:, -1:], atol=3e-5)
        some = torch.tensor([1, length - 3, length - 1])  # begins before the image, so it says nothing of an answer
        assert torch.allclose(model(**inputs, logits_to_keep=some).logits, full[:, some], atol=3e-5)
        tail = model(**inputs, logits_to_keep=3).logits
        chosen = kept(handle)
        gaps = model(**inputs, logits_to_keep=torch.tensor([-3, -1])).logits
        assert torch.allclose(gaps, tail[:, [0, 2]], atol=3e-5) and kept(handle) == chosen


@pytest.mark.parametrize("method", TEXT_GUIDED)
@pytest.mark.parametrize("name", NAMES)
def test_right_padded_completions_are_scored_as_alone(tiny_model, name, method):
    """What trainers send: a row's logits do not depend on the others' completions, and it keeps what generate kept."""
    model, case = tiny_model(name), tiny.CASES[name]
    both, single = case.inputs(case.samples[:2], [0, 1]), tiny.alone(case, 1)
    completion = torch.randint(20, tiny.VOCAB, (2, 8), generator=torch.Generator().manual_seed(2))
    real = torch.ones(2, 8, dtype=torch.long)
    real[1, 3:] = 0
    joined, alone = longer(both, completion * real, real), longer(single, completion[1:, :3], real[1:, :3])
    with torch.no_grad(), vtc.patched(model, method, keep=0.4) as handle:
        in_batch = model(**joined, logits_to_keep=9, use_cache=False).logits[1, :4]
        chosen = kept(handle, 1)
        by_itself = model(**alone, logits_to_keep=4, use_cache=False).logits[0]
        assert kept(handle) == chosen
        model.generate(**both, max_new_tokens=1, do_sample=False)
        assert kept(handle, 1) == chosen
    assert torch.allclose(in_batch, by_itself, atol=3e-5)


def longer(inputs, ids, real):
    out = dict(inputs)
    out["input_ids"] = torch.cat([inputs["input_ids"], ids], 1)
    out["attention_mask"] = torch.cat([inputs["attention_mask"], real], 1)
    if "mm_token_type_ids" in inputs:
        out["mm_token_type_ids"] = torch.nn.functional.pad(inputs["mm_token_type_ids"], (0, ids.shape[1]))
    return out


@pytest.mark.parametrize("method", ["vtc-cls", "fastv", "pyramiddrop"])
@pytest.mark.parametrize("name", NAMES)
def test_maps_and_states_have_the_columns_of_the_prompt(tiny_model, name, method):
    model, inputs = tiny_model(name, "eager"), tiny.batch(tiny.CASES[name])
    length, ask = inputs["input_ids"].shape[1], dict(output_attentions=True, output_hidden_states=True)
    with torch.no_grad():
        with vtc.patched(model, method, keep=0.25) as handle:
            out = model(**inputs, **ask)
            alive, plan = oracle.alive_by_layer(inputs, handle.last, 4), handle.plan()
        closing = [k for k, stages in plan.cuts.items() if all(s.positions == "renumber" for s in stages)]
        closing += [0] if plan.renumbers else []
        rope = {0: torch.arange(length).expand(len(alive[0]), -1)}
        real = inputs["attention_mask"].bool()
        rope |= {k: rope[0] - (real & ~alive[k]).long().cumsum(1) for k in closing}
        rope = rope if closing and name == "llava-clip" else None  # M-RoPE positions keep their gaps
        with oracle.masked(model, alive, rope):
            want = model(**inputs, **ask, use_cache=False)
    for i, (maps, states) in enumerate(zip(out.attentions, out.hidden_states, strict=False)):
        assert maps.shape[-2:] == (length, length) and states.shape[1] == length
        here, there = alive[i][:, None, :, None].expand_as(maps), alive[i][:, None, None].expand_as(maps)
        assert torch.allclose(maps[here], want.attentions[i][here], atol=3e-5)
        assert bool((maps[here & ~there] == 0).all())
        assert torch.allclose(states[alive[max(0, i - 1)]], want.hidden_states[i][alive[max(0, i - 1)]], atol=3e-5)


@pytest.mark.parametrize("method", ["vtc-cls", "divprune", "fastv", "todre"])
def test_features_the_user_has_put_into_the_embeddings_are_pruned(tiny_model, method):
    model, inputs = tiny_model("llava-clip"), tiny.batch(tiny.CASES["llava-clip"])
    with torch.no_grad(), vtc.patched(model, method, keep=0.25) as handle:
        want = model(**inputs).logits
        chosen = kept(handle)
        features = model.model.get_image_features(inputs["pixel_values"]).pooler_output
        rows = torch.cat(list(features)).reshape(-1, 32)
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        embeds = embeds.masked_scatter((inputs["input_ids"] == tiny.IMG)[..., None], rows)
        handle.last = None
        found = model(inputs_embeds=embeds, attention_mask=inputs["attention_mask"]).logits
        assert kept(handle) == chosen
    assert torch.allclose(found, want, atol=3e-5)


def test_features_of_elsewhere_are_told_of_once(tiny_model):
    model, inputs = tiny_model("llava-clip"), tiny.alone(tiny.CASES["llava-clip"], 0)
    embeds = torch.randn(1, inputs["input_ids"].shape[1], 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), vtc.patched(model, "vtc-cls", keep=0.25) as handle:
        with pytest.warns(UserWarning, match="nothing was pruned.*vtc.Columns"):
            model(inputs_embeds=embeds)
        assert handle.last is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model(inputs_embeds=embeds)


@pytest.mark.parametrize("method", vtc.list_methods())
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(tiny_model, method, bad):
    """No method ranks by noise."""
    name = case_of(method)
    model, inputs = tiny_model(name), dict(tiny.alone(tiny.CASES[name], 0))
    pixels = "pixel_values_videos" if method in VIDEO_ONLY else "pixel_values"
    inputs[pixels] = inputs[pixels].clone()
    inputs[pixels][0, ..., 3] = bad
    with torch.no_grad(), vtc.patched(model, method, keep=0.25) as handle:
        with pytest.raises(ValueError, match="(?i)finite|NaN") as said:
            model(**inputs)
        assert "\n" not in str(said.value) and handle.last is None
        model(**tiny.alone(tiny.CASES[name], 0))  # the next call is a fresh one
        assert handle.last is not None
