"""The public calls: what they accept, what they refuse and how, and that nothing is left behind."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings

import pytest
import torch
import transformers as tf

import vtc
from vtc.methods import Method, make_method

from support import oracle, tiny

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
)


def snapshot(model):
    """Everything a patch could leave behind."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    hooks = {
        (name, kind): list(getattr(module, kind))
        for name, module in model.named_modules()
        for kind in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_forward_hooks_with_kwargs",
            "_forward_pre_hooks_with_kwargs",
        )
        if getattr(module, kind)
    }
    attributes = {name: set(module.__dict__) for name, module in model.named_modules()}
    configs = {name: id(module.config) for name, module in model.named_modules() if hasattr(module, "config")}
    return hooks, attributes, configs, set(ALL_ATTENTION_FUNCTIONS)


@pytest.mark.parametrize("name", list(tiny.CASES))
def test_unpatch_leaves_nothing(name):
    model, case = tiny.CASES[name].build(), tiny.CASES[name]
    inputs = tiny.batch(case)
    with torch.no_grad():
        plain = model(**inputs).logits  # also installs what transformers installs lazily
        before = snapshot(model)
        for method in (["vtc-cls", oracle.LastQuery(keep=0.5)], "random"):
            vtc.patch(model, method)
            assert snapshot(model) != before
            model(**inputs)
            model.generate(**inputs, **tiny.GENERATE)
            vtc.unpatch(model)
            assert snapshot(model) == before
        assert torch.equal(model(**inputs).logits, plain)


def test_patching_twice_replaces(tiny_model):
    model, inputs = tiny_model("llava-clip"), tiny.alone(tiny.CASES["llava-clip"], 0)
    with torch.no_grad():
        model(**inputs)  # transformers installs its own hooks at the first forward
        before = snapshot(model)
        vtc.patch(model, "random", keep=4)
        handle = vtc.patch(model, "random", keep=9)
        model(**inputs)
        assert handle.last.after == 9
        vtc.unpatch(model)
    assert snapshot(model) == before


def test_a_failed_patch_keeps_the_old_one(tiny_model):
    model, inputs = tiny_model("llava-clip"), tiny.alone(tiny.CASES["llava-clip"], 0)
    with torch.no_grad(), vtc.patched(model, "random", keep=4) as handle:
        with pytest.raises(ValueError, match="start_layer=9"):
            vtc.patch(model, "vtc-cls", start_layer=9)
        model(**inputs)
        assert handle.last.after == 4


def test_unpatch_of_an_unpatched_model_says_so(tiny_model):
    with pytest.raises(ValueError, match="is not patched"):
        vtc.unpatch(tiny_model("llava-clip"))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (dict(method="divprun2"), ValueError, "Unknown method"),
        (dict(method="vtc_clss"), ValueError, "Did you mean 'vtc-cls'"),
        (dict(method="random", keep=0), ValueError, "must be >= 1"),
        (dict(method="random", keep=0.0), ValueError, r"must lie in \(0, 1\]"),
        (dict(method="random", keep=25.0), ValueError, "for 25 % pass keep=0.25"),
        (dict(method="random", keep=-1), ValueError, "must be >= 1"),
        (dict(method="random", keep=float("nan")), ValueError, "nan"),
        (dict(method="random", keep="0.5"), TypeError, "str"),
        (dict(method="random", keep=True), TypeError, "bool"),
        (dict(method="random", seeds=3), TypeError, "Did you mean 'seed'"),
        (dict(method="vtc-cls", ensemble="mean"), ValueError, "choose one of 'sum', 'max', 'min'"),
        (dict(method=3), TypeError, "pass a name, a Method"),
        (dict(method=[]), TypeError, "pass a name, a Method"),
        (dict(method=["random"], keep=0.5), TypeError, "belong into the method objects"),
    ],
)
def test_bad_arguments_teach(tiny_model, arguments, error, text):
    model = tiny_model("llava-clip")
    before = snapshot(model)
    with pytest.raises(error, match=text):
        vtc.patch(model, **arguments)
    assert snapshot(model) == before


def test_models_that_are_no_vlm_are_refused():
    text = tf.LlamaForCausalLM(tf.LlamaConfig(**tiny.TEXT))
    with pytest.raises(TypeError, match="is not a vision-language model vtc can patch"):
        vtc.patch(text, "random")
    with pytest.raises(TypeError, match="transformers config"):
        vtc.patch(torch.nn.Linear(2, 2), "random")


def test_keep_is_settable_and_checked(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.batch(case)
    with torch.no_grad(), vtc.patched(model, "vtc-cls", keep=0.25) as handle:
        model(**inputs)
        assert [i.after for i in handle.last.images] == [9, 9, 9]
        handle.keep = 5
        model(**inputs)
        assert [i.after for i in handle.last.images] == [5, 5, 5]
        with pytest.raises(ValueError, match="0.25"):
            handle.keep = 25.0
        assert handle.keep == 5
        handle.keep = 1000
        model(**inputs)
        assert handle.last.after == handle.last.before == 108
    with vtc.patched(model, ["vtc-cls", "random"]) as handle, pytest.raises(ValueError, match="Several methods"):
        handle.keep = 0.5


def test_disabled_runs_the_plain_model(tiny_model):
    model, case = tiny_model("qwen2_5_vl"), tiny.CASES["qwen2_5_vl"]
    inputs = tiny.batch(case)
    plain = model.generate(**inputs, **tiny.GENERATE)
    with vtc.patched(model, "vtc-cls", keep=0.25) as handle:
        pruned = model.generate(**inputs, **tiny.GENERATE)
        with handle.disabled():
            assert torch.equal(model.generate(**inputs, **tiny.GENERATE), plain)
        assert torch.equal(model.generate(**inputs, **tiny.GENERATE), pruned)


def test_methods_compose_in_order(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 0)
    with torch.no_grad():
        with vtc.patched(model, "vtc-cls", keep=0.5) as handle:
            model(**inputs)
            first = handle.last.images[0].kept
        chain = [make_method("vtc-cls", keep=0.5), make_method("random", keep=0.5), oracle.LastQuery(keep=0.5)]
        with vtc.patched(model, chain) as handle:
            model(**inputs)
            image = handle.last.images[0]
    assert [len(kept) for _, kept in image.cuts] == [9, 4]
    assert set(image.kept.tolist()) < set(image.entered.tolist()) < set(first.tolist())


def test_auto_says_why(tiny_model, caplog):
    model = tiny_model("llava-clip")
    with caplog.at_level(logging.INFO, "vtc"), vtc.patched(model) as handle:
        assert handle.methods[0].name == "vtc-cls"
        assert handle.reason
    assert len(caplog.records) == 1
    assert handle.reason in caplog.text


def test_random_is_the_same_on_every_call_and_leaves_torch_alone(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    kept = []
    with torch.no_grad(), vtc.patched(model, "random", keep=0.25, seed=4) as handle:
        for inputs in (tiny.batch(case), tiny.batch(case), tiny.alone(case, 1)):
            torch.manual_seed(0)
            expected = torch.rand(1)
            torch.manual_seed(0)
            model(**inputs)
            assert torch.equal(torch.rand(1), expected)
            kept.append([i.kept.tolist() for i in handle.last.images])
    assert kept[0] == kept[1]
    assert kept[0][1:] == kept[2]
    assert kept[0][1] != kept[0][2]


def test_config_round_trip(tiny_model, tmp_path):
    model = tiny_model("llava-clip")
    with vtc.patched(model, "vtc-cls", keep=7, ensemble="max") as handle:
        file = handle.config.save(tmp_path / "one.json")
    data = json.loads(file.read_text())
    assert data["method"] == "vtc-cls"
    assert data["keep"] == 7
    assert data["vtc_version"] == vtc.__version__
    with vtc.patched(model, vtc.load(file)) as handle:
        assert handle.methods[0] == make_method("vtc-cls", keep=7, ensemble="max")
    with vtc.patched(model, ["pool", "random"]) as handle:
        again = vtc.load(handle.config.save(tmp_path))
    assert [m.name for m in again.build()] == ["pool", "random"]


def test_config_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="No vtc configuration"):
        vtc.load(tmp_path / "none.json")
    bad = tmp_path / "bad.json"
    for text, match in [
        ("{", "is not JSON"),
        ("[1]", "JSON object"),
        ("{}", '"method"'),
        ('{"method": "x"}', "Unknown method"),
    ]:
        bad.write_text(text)
        with pytest.raises(ValueError, match=match):
            vtc.load(bad)
    bad.write_text('{"method": "random", "keep": 0.5, "future": 1, "vtc_version": "9.9"}')
    with pytest.warns(UserWarning, match="'future'.*9.9"):
        assert vtc.load(bad).methods == [{"method": "random", "keep": 0.5}]


@pytest.mark.parametrize("name", vtc.list_methods())
def test_every_method_survives_json(name):
    method = make_method(name)
    data = json.loads(json.dumps(method.to_dict()))
    assert data.pop("method") == name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make_method(name, **data) == method
    assert isinstance(method, Method)
    assert method.summary


def test_report_before_any_forward(tiny_model):
    with (
        vtc.patched(tiny_model("llava-clip"), "random") as handle,
        pytest.raises(ValueError, match="Nothing to report"),
    ):
        handle.report()


def test_report_formats(tiny_model):
    model, case = tiny_model("qwen2_5_vl"), tiny.CASES["qwen2_5_vl"]
    inputs = tiny.batch(case)
    with vtc.patched(model, oracle.Norms(keep=0.5, cuts=((2, 0.5),))) as handle:
        model.generate(**inputs, **tiny.GENERATE)
        report = handle.report()
    data = json.loads(report.to_json())
    assert data == json.loads(json.dumps(report.to_dict()))
    assert data["visual_tokens"]["before"] == 48
    assert data["layers"][0]["tokens"] == [1 + 3 + 12 + 2 + 4, 1 + 2 + 4 + 2 + 1 + 8 + 2 + 5, 7]
    assert data["visual_tokens"]["mean_over_layers"] == pytest.approx((24 + 24 + 12 + 12) / 4)
    assert data["flops"]["after"] < data["flops"]["before"]
    assert data["decode"]["steps"] == 5
    assert data["seconds"]["vision"] > 0
    assert "| visual tokens | 48 | 12 | 25.0 % |" in report.to_markdown()
    assert "visual tokens" in str(report)
    assert "<table>" in report._repr_html_() and " ms" in report._repr_html_()


def test_flops_of_a_dense_decoder_by_hand(tiny_model):
    """2 * weights * tokens + 4 * tokens^2 * width per layer, with the weights counted from the config."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 0)
    with torch.no_grad(), vtc.patched(model, "random", keep=9) as handle:
        model(**inputs)
        flops = handle.report().to_dict()["flops"]
    d, kv, m, tokens = 32, 16, 48, inputs["input_ids"].shape[1]
    weights = 2 * d * d + 2 * d * kv + 3 * d * m

    def layer(n):
        return 2 * weights * n + 4 * n * n * d

    assert flops["before"] == 4 * layer(tokens)
    assert flops["after"] == 4 * layer(tokens - 27)


def test_import_is_light():
    code = (
        "import sys, vtc\n"
        "heavy = {'torch', 'transformers', 'triton', 'gradio', 'lmms_eval', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_methods_and_core_never_import_transformers():
    code = (
        "import sys, vtc.methods as m\n"
        "[m.method_class(n) for n in m.list_methods()]\n"
        "print('transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_unmeasured_features_are_refused(tiny_model):
    """Features encoded before patching carry no record: an error, not a silent pass."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 0)
    with torch.no_grad():
        encoded = {"image": model.model.get_image_features(inputs.pop("pixel_values"))}
        with vtc.patched(model, "random"), pytest.raises(ValueError, match="carry no vtc record"):
            model(**inputs, mm_encoder_outputs=encoded)


def test_prompt_and_pixels_that_do_not_belong_together(tiny_model):
    model, case = tiny_model("qwen2_5_vl"), tiny.CASES["qwen2_5_vl"]
    inputs = tiny.alone(case, 0)
    with torch.no_grad(), vtc.patched(model, "random"), pytest.raises(ValueError):
        model(
            **{**inputs, "input_ids": inputs["input_ids"][:, :-8], "attention_mask": inputs["attention_mask"][:, :-8]}
        )
