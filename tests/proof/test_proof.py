"""The proof on the spot: holds where vtc is right, and every obligation fails for its own kind of fault."""

from __future__ import annotations

import functools
import json

import pytest
import torch
import transformers as tf

import vtc
from vtc.adapters import list_adapters
from vtc.engine import cache as engine_cache
from vtc.engine import side_inputs
from vtc.engine.decoder import DecoderSpan
from vtc.engine.wrapping import Undo
from vtc.proof import OBLIGATIONS, Verdict, prove
from vtc.proof.models import all_cases, too_old
from vtc.proof.models.parts import IMG
from vtc.proof.probes import Norms
from vtc.proof.verdict import difference

REPRESENTATIVE = ["llava", "qwen2_5_vl", "qwen3_5", "gemma3", "gemma4", "pi0"]
"""CLIP and SigLIP and Pixtral towers, M-RoPE, linear attention, windows with images that see both ways, a policy."""
FAST = ("internvl",)


proved = functools.cache(prove)


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {name: found["outcome"] for name, found in verdict.outcomes().items()}


def installed(family: str) -> str:
    return pytest.param(family, marks=pytest.mark.skipif(family in too_old(), reason="needs a newer transformers"))


@pytest.mark.parametrize("family", [installed(f) for f in REPRESENTATIVE])
def test_it_holds(family):
    verdict = proved(family)
    assert verdict.holds, [str(f) for f in verdict.differing]
    assert set(outcomes(verdict)) == set(OBLIGATIONS)
    held = {f.obligation for f in verdict.findings if f.outcome == "holds"}
    # pi0 has no way without a cache, and says so
    assert held == set(OBLIGATIONS) - ({"cache"} if family == "pi0" else set())
    exact = [f.difference for f in verdict.findings if f.obligation in ("identical", "unpatch", "kv")]
    assert set(exact) <= {0.0, None}


@pytest.mark.slow
@pytest.mark.parametrize("family", [installed(a.family) for a in list_adapters() if a.family not in REPRESENTATIVE])
def test_it_holds_on_the_other_families(family):
    verdict = prove(family)
    assert verdict.holds and not verdict.differing
    assert all(f.outcome == "holds" for f in verdict.findings)


def test_every_family_has_tiny_models():
    assert {c.family for c in all_cases().values()} | {"pi0"} == set(vtc.list_families()) - (set(too_old()) - {"pi0"})


@pytest.mark.parametrize(("family", "reason"), [("gemma4", "reuse the keys"), ("qwen3_5", "linear attention")])
def test_what_a_family_refuses_is_not_passed(family, reason):
    if family in too_old():
        pytest.skip("needs a newer transformers")
    verdict = proved(family)
    refused = [f for f in verdict.findings if f.outcome == "refused"]
    assert {f.obligation for f in refused} == set(OBLIGATIONS) and {f.method for f in refused} == {"inside"}
    assert all(reason in f.reason and f.difference is None for f in refused)
    assert set(outcomes(verdict).values()) == {"refused"} and verdict.holds


def broken_mask(monkeypatch):
    """Padding of shortened rows counts as real."""
    whole = side_inputs.columns_mask
    monkeypatch.setattr(side_inputs, "columns_mask", lambda layer, past, new, *rest: whole(layer, past, None, *rest))


def broken_positions(monkeypatch):
    """Kept tokens move up where their positions are to be kept."""
    monkeypatch.setattr("vtc.engine.decoder.true_positions", lambda *args: None)


def broken_commit(monkeypatch):
    """Nobody tells the cache how many tokens it stands for."""
    monkeypatch.setattr(engine_cache, "commit", lambda *args: None)


def broken_identity(monkeypatch):
    """A last bit of the embeddings changes on the way."""
    whole = DecoderSpan._prefill

    def prefill(self, forward, given):
        given["embeds"] = given["embeds"] * (1 + 2**-22)
        whole(self, forward, given)

    monkeypatch.setattr(DecoderSpan, "_prefill", prefill)


def broken_batch(monkeypatch):
    """What is kept depends on how many rows there are."""
    whole = Norms.select

    def select(self, view):
        chosen = whole(self, view)
        if view.row > 0 and len(chosen.keep) > 1:
            chosen.keep = chosen.keep[:-1]
        return chosen

    monkeypatch.setattr(Norms, "select", select)


def broken_unpatch(monkeypatch):
    """One hook stays."""
    whole = Undo.run

    def run(self):
        self.steps[:1] = []
        whole(self)

    monkeypatch.setattr(Undo, "run", run)


def broken_bytes(monkeypatch):
    """Values are not counted."""
    whole = engine_cache.kv_bytes
    monkeypatch.setattr(engine_cache, "kv_bytes", lambda cache: [n // 2 for n in whole(cache)])


def broken_hooks(monkeypatch):
    """The decoder is never reached: nothing is pruned, and every bit is that of the plain model."""
    monkeypatch.setattr(DecoderSpan, "decode", lambda self, seat, args, kwargs: seat.original(*args, **kwargs))


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        (broken_identity, "identical"),
        (broken_mask, "masking"),
        (broken_mask, "batch"),
        (broken_positions, "masking"),
        (broken_commit, "cache"),
        (broken_batch, "batch"),
        (broken_unpatch, "unpatch"),
        (broken_bytes, "kv"),
        *((broken_hooks, name) for name in OBLIGATIONS if name != "unpatch"),
    ],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_a_broken_engine_is_caught(monkeypatch, fault, failing):
    assert outcomes(proved(*FAST))[failing] == "holds"
    fault(monkeypatch)
    verdict = prove(*FAST, obligations=[failing])
    assert not verdict.holds and outcomes(verdict) == {failing: "differs"}
    assert all(f.reason or f.difference > f.tolerance for f in verdict.differing)


def test_one_fault_fails_its_own_obligation_only(monkeypatch):
    broken_bytes(monkeypatch)
    found = outcomes(prove(*FAST))
    assert found.pop("kv") == "differs" and set(found.values()) == {"holds"}


def test_a_crash_is_a_difference(monkeypatch):
    def crash(*args):
        raise RuntimeError("no such\nkernel")

    monkeypatch.setattr(engine_cache, "commit", crash)
    verdict = prove(*FAST, obligations=["masking", "unpatch"])
    assert not verdict.holds
    assert {f.reason for f in verdict.differing} == {"RuntimeError: no such kernel"}


def test_a_model_that_cannot_be_built_is_a_difference(monkeypatch):
    def gone(make):
        raise AttributeError("transformers has no InternVL any more")

    monkeypatch.setattr("vtc.proof.models.configs.seeded", gone)
    verdict = prove(*FAST)
    assert not verdict.holds and [f.obligation for f in verdict.differing] == list(OBLIGATIONS)
    assert "AttributeError: transformers has no InternVL" in verdict.findings[0].reason


def test_a_refusal_of_plain_pruning_is_a_difference(monkeypatch):
    """Every family can drop before its language model; a patch that will not is at fault."""

    def refuse(*args):
        raise ValueError("Not today.")

    monkeypatch.setattr("vtc.patching.Handle", refuse)
    verdict = prove(*FAST, obligations=["masking"])
    assert not verdict.holds and "Not today." in verdict.differing[0].reason


def test_named_methods():
    verdict = prove(*FAST, methods=["pool", "fastv"])
    found = {(f.obligation, f.method): f for f in verdict.findings}
    assert verdict.holds and {m for _, m in found} == {"pool", "fastv"}
    assert found["masking", "pool"].outcome == "refused" and "merges" in found["masking", "pool"].reason
    assert found["cache", "fastv"].outcome == "refused" and found["masking", "fastv"].outcome == "holds"
    assert {f.outcome for f in verdict.findings if f.obligation in ("identical", "batch", "kv")} == {"holds"}


@pytest.mark.slow
@pytest.mark.parametrize("family", [installed(f) for f in ("llava", "qwen2_5_vl", "pi0")])
def test_every_method_holds_or_is_refused(family):
    verdict = prove(family, methods=vtc.list_methods())
    assert verdict.holds, [str(f) for f in verdict.differing]
    held = {f.method for f in verdict.findings if f.outcome == "holds" and f.obligation == "batch"}
    assert held == set(vtc.list_methods())


def test_a_method_that_waits_for_earlier_calls_is_refused():
    from vtc.methods.vla_pruner import VLAPruner

    verdict = prove(*FAST, methods=[VLAPruner(keep=0.5)], obligations=["masking", "cache"])
    assert [f.outcome for f in verdict.findings] == ["refused"] * 2
    assert "until it remembers" in verdict.findings[0].reason and "remembers calls" in verdict.findings[1].reason


def test_a_method_object_is_left_as_it_was():
    method = Norms(keep=0.3, cuts=((2, 0.5),))
    assert prove(*FAST, methods=[method], obligations=["identical", "masking"]).holds
    assert method == Norms(keep=0.3, cuts=((2, 0.5),))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (dict(what="lava"), ValueError, "Did you mean 'llava'"),
        (dict(what="internvl", obligations=["maskin"]), ValueError, "Did you mean 'masking'"),
        (dict(what="internvl", obligations=[]), ValueError, "proves nothing"),
        (dict(what="internvl", methods=["pol"]), ValueError, "Did you mean 'pool'"),
        (dict(what=7), TypeError, "int is no family, model or config"),
        (dict(what=tf.LlamaConfig()), ValueError, "cannot be shrunk: no family of vtc"),
        (dict(what=tf.LlavaConfig(vision_config=tf.Dinov2Config())), ValueError, "dinov2.*--family llava"),
    ],
)
def test_bad_arguments_teach(arguments, error, text):
    with pytest.raises(error, match=text):
        prove(**arguments)


@pytest.mark.parametrize(
    "config",
    [
        # the shape of LLaVA-1.5 7B
        tf.LlavaConfig(
            vision_config=tf.CLIPVisionConfig(
                hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, patch_size=14, image_size=336
            ),
            text_config=tf.LlamaConfig(hidden_size=4096, num_hidden_layers=32),
            image_token_id=32000,
        ),
        tf.LlavaConfig(vision_config=tf.CLIPVisionConfig(), text_config=tf.MistralConfig(sliding_window=4096)),
        tf.Qwen2_5_VLConfig(),
        tf.Gemma3Config(),
    ],
    ids=["llava-1.5", "windows", "qwen2.5-vl", "gemma3"],
)
def test_a_config_is_shrunk(config):
    before = json.dumps(config.to_dict(), default=str)
    verdict = prove(config)
    assert verdict.holds
    assert {f.setup for f in verdict.findings} == {f"{verdict.family} as configured"}
    assert json.dumps(config.to_dict(), default=str) == before


def test_a_shrunk_config_keeps_what_does_not_count():
    from vtc.proof.shrink import shrunk

    text = tf.MistralConfig(
        sliding_window=4096, hidden_act="gelu", rms_norm_eps=1e-3, num_hidden_layers=40, rope_theta=5e5
    )
    config = tf.LlavaConfig(vision_config=tf.CLIPVisionConfig(), text_config=text, vision_feature_layer=-3)
    model = shrunk(config).build()
    found = model.config.text_config
    assert (found.model_type, found.hidden_act, found.rms_norm_eps) == ("mistral", "gelu", 1e-3)
    assert found.num_hidden_layers == 4 and 0 < found.sliding_window < 100 and found.hidden_size == 32
    assert model.config.vision_feature_layer == -3 and model.config.image_token_id == IMG
    assert found.rope_parameters["rope_theta"] == 5e5
    assert next(model.parameters()).dtype == torch.float32


def test_a_model_stands_for_its_config(tiny_model):
    model = tiny_model("llava-clip")
    verdict = prove(model, obligations=["identical"])
    assert verdict.holds and verdict.family == "llava"


def test_verdicts_are_plain_data():
    verdict = prove(*FAST, obligations=["identical", "kv"])
    data = json.loads(json.dumps(verdict.to_dict()))
    assert Verdict.from_dict(data) == verdict
    assert data["holds"] is True and data["obligations"]["kv"]["outcome"] == "holds"
    assert set(data["versions"]) == {"vtc", "torch", "transformers"}


def test_difference():
    a = torch.tensor([1.0, -4.0])
    assert difference(a, a) == 0 and difference(a + torch.tensor([0.0, 1.0]), a) == 0.25
    assert difference(a, torch.ones(3)) == float("inf") and difference(a * torch.nan, a) == float("inf")


def test_other_patched_models_of_the_process_are_no_fault(tiny_model):
    from vtc.proof.obligations import state

    model, other = tiny_model("llava-clip"), all_cases()["llava-siglip"].build()
    with vtc.patched(other, "fastv", keep=0.5), torch.no_grad():
        other(**all_cases()["llava-siglip"].alone(0))
        before = state(model)
    assert state(model) == before
