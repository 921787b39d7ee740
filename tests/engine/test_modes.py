"""Ways people run a model: training, interruptions, copies, threads, assisted decoding, other caches."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import CompileConfig

import vtc
from vtc.core.stage import Projector, Stage
from vtc.engine import cache as kv
from vtc.methods.base import Method

from support import oracle, tiny

NAMES = ["llava-clip", "qwen2_5_vl-video"]
BOTH = dict(keep=0.6, cuts=((2, 0.5),))


def labelled(inputs):
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    return labels.masked_fill((labels < 20) & (labels >= 0), -100)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", tiny.CASES)
def test_loss_is_that_of_the_masked_sequence(tiny_model, name, side):
    """Labels keep their columns; the loss is that of full-length forwards with the dropped columns masked."""
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.batch(case, side)
    labels = labelled(inputs)
    positions = None if "mm_token_type_ids" in inputs else oracle.positions_of(inputs, 0)
    with torch.no_grad():
        with vtc.patched(model, oracle.Norms(**BOTH)) as handle:
            out = model(**inputs, labels=labels, position_ids=positions)
        alive = oracle.alive_by_layer(inputs, handle.last, 4)
        with oracle.masked(model, alive):
            logits = model(**inputs, position_ids=positions, use_cache=False).logits
    # the token after an image is predicted from the last image token that reached the last layer
    source = (alive[-1].long().cumsum(1) - 1).clamp_min(0)
    kept = [row.nonzero()[:, 0] for row in alive[-1]]
    columns = torch.stack([k[s] for k, s in zip(kept, source, strict=True)])
    logits = logits.gather(1, columns[..., None].expand_as(logits))
    expected = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
    )
    assert abs(out.loss - expected) < 1e-5
    assert out.logits.shape[:2] == inputs["input_ids"].shape


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_flow_and_match_numbers(name, checkpointing):
    model, case = tiny.CASES[name].build(), tiny.CASES[name]
    inputs = tiny.alone(case, 1)
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    with vtc.patched(model, oracle.Norms(**BOTH)):
        loss = model(**inputs, labels=labelled(inputs)).loss
        loss.backward()
        weight = model.get_decoder().layers[3].mlp.up_proj.weight
        direction = tiny.noise(*weight.shape, seed=5)
        slope = float((weight.grad * direction).sum())
        with torch.no_grad():
            values = []
            for step in (1e-3, -1e-3):
                weight += step * direction
                values.append(float(model(**inputs, labels=labelled(inputs)).loss))
                weight -= step * direction
    tower = [p.grad for n, p in model.named_parameters() if "vision_tower" in n or "visual" in n]
    assert any(g is not None and g.abs().sum() > 0 for g in tower)
    assert abs(slope - (values[0] - values[1]) / 2e-3) < 0.02 * max(1.0, abs(slope))


@pytest.mark.parametrize("name", NAMES)
def test_an_exception_in_generate_leaves_the_model_usable(tiny_model, name):
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.batch(case)
    with vtc.patched(model, oracle.Norms(**BOTH)):
        expected = model.generate(**inputs, **tiny.GENERATE)
        for place in (model.get_decoder().layers[3], model.get_decoder().layers[0], model.lm_head):
            hook = place.register_forward_pre_hook(_raise)
            with pytest.raises(RuntimeError, match="on purpose"):
                model.generate(**inputs, **tiny.GENERATE)
            hook.remove()
            assert torch.equal(model.generate(**inputs, **tiny.GENERATE), expected)
        assert torch.equal(model.generate(**inputs, **tiny.GENERATE), expected)


def _raise(*args):
    raise RuntimeError("on purpose")


def test_a_stage_that_raises_leaves_the_model_usable(tiny_model):
    class Broken(Method):
        name, summary = "test-broken", "test"

        def stages(self, facts):
            return [Stage(Projector(), _raise, self.keep_count)]

    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.batch(case)
    plain = model.generate(**inputs, **tiny.GENERATE)
    with vtc.patched(model, Broken()), pytest.raises(RuntimeError, match="on purpose"):
        model.generate(**inputs, **tiny.GENERATE)
    assert torch.equal(model.generate(**inputs, **tiny.GENERATE), plain)


@pytest.mark.parametrize("name", NAMES)
def test_deepcopy_of_a_patched_model_is_a_patched_model_of_its_own(name):
    model, case = tiny.CASES[name].build(), tiny.CASES[name]
    inputs = tiny.batch(case)
    plain = model.generate(**inputs, **tiny.GENERATE)
    handle = vtc.patch(model, "vtc-cls", keep=0.4)
    pruned = model.generate(**inputs, **tiny.GENERATE)
    twin = copy.deepcopy(model)
    assert torch.equal(twin.generate(**inputs, **tiny.GENERATE), pruned)
    twin.__dict__["_vtc_handle"].keep = 1.0
    assert torch.equal(twin.generate(**inputs, **tiny.GENERATE), plain)
    assert torch.equal(model.generate(**inputs, **tiny.GENERATE), pruned)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert torch.equal(model.generate(**inputs, **tiny.GENERATE), pruned)
    vtc.unpatch(twin)
    assert handle.keep == 0.4
    vtc.unpatch(model)
    assert torch.equal(model.generate(**inputs, **tiny.GENERATE), plain)


def test_saving_a_patched_model_saves_the_plain_one(tmp_path):
    model = tiny.CASES["llava-clip"].build()
    keys = set(model.state_dict())
    with vtc.patched(model, "vtc-cls", keep=0.4):
        model.save_pretrained(tmp_path)
        assert set(pickle.loads(pickle.dumps(model.state_dict()))) == keys
    again = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_threads_do_not_mix(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    singles = [tiny.alone(case, i) for i in range(3)]
    with vtc.patched(model, "vtc-cls", keep=0.4):
        expected = [model.generate(**x, **tiny.GENERATE) for x in singles]
        got = {}

        def work(i):
            for _ in range(3):
                got[i] = model.generate(**singles[i], **tiny.GENERATE)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert all(torch.equal(got[i], expected[i]) for i in range(3))


def test_conversations_share_one_model(tiny_model):
    """Two caches decode in turns: the state lies in the cache, not in the model."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    with torch.no_grad(), vtc.patched(model, oracle.Norms(**BOTH)):
        texts = []
        caches = []
        for i in (0, 1):
            one = tiny.alone(case, i)
            texts.append(oracle.new_tokens(oracle.generate(model, one), one))
            out = model(**one)
            caches.append([out.past_key_values, out.logits, one["attention_mask"]])
        for step in range(5):
            for i in (0, 1):
                cache, logits, mask = caches[i]
                logits = logits[:, -1].clone()
                logits[:, tiny.SPECIAL] = -torch.inf
                token = logits.argmax(-1, keepdim=True)
                assert token == texts[i][0, step]
                mask = torch.cat([mask, torch.ones_like(token)], 1)
                out = model(input_ids=token, attention_mask=mask, past_key_values=cache)
                caches[i] = [cache, out.logits, mask]


@pytest.mark.parametrize("name", ["llava-clip", "llava-pixtral", "qwen2_5_vl"])
def test_prompt_lookup_decoding_equals_greedy(tiny_model, name):
    model, case = tiny_model(name), tiny.CASES[name]
    inputs = tiny.alone(case, 1)
    for method in (oracle.Norms(**BOTH), oracle.LastQuery(keep=0.5)):
        with vtc.patched(model, method):
            greedy = model.generate(**inputs, **tiny.GENERATE)
            looked = model.generate(**inputs, **tiny.GENERATE, prompt_lookup_num_tokens=3)
        assert torch.equal(greedy, looked)


def test_crop_into_pruned_tokens_is_refused(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 0)
    with torch.no_grad(), vtc.patched(model, oracle.Norms(keep=0.5)):
        cache = model(**inputs).past_key_values
        cache.crop(-2)
        assert cache.get_seq_length() == inputs["input_ids"].shape[1] - 2
        with pytest.raises(ValueError, match="come after its pruned visual tokens"):
            cache.crop(-10)


def test_chunked_prefill_is_refused(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    with vtc.patched(model, oracle.Norms(keep=0.5)), pytest.raises(ValueError, match="chunked prefill"):
        model.generate(**tiny.alone(case, 0), **tiny.GENERATE, prefill_chunk_size=8)


def test_hidden_states_have_the_logical_length(tiny_model):
    model, case = tiny_model("qwen2_5_vl"), tiny.CASES["qwen2_5_vl"]
    inputs = tiny.batch(case)
    with torch.no_grad(), vtc.patched(model, oracle.Norms(**BOTH)):
        out = model(**inputs, output_hidden_states=True)
    assert {h.shape[1] for h in out.hidden_states} == {inputs["input_ids"].shape[1]}
    assert len(out.hidden_states) == 5
    assert torch.equal(model.lm_head(out.hidden_states[-1]), out.logits)


def test_caches_hold_only_what_was_kept(tiny_model):
    """Bytes in the report equal what the tensors hold, layer by layer."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 0)
    with torch.no_grad(), vtc.patched(model, oracle.Norms(**BOTH)) as handle:
        cache = model(**inputs).past_key_values
    widths = [layer.keys.shape[2] for layer in cache.layers]
    assert widths == [32, 32, 21, 21]
    held = [layer.keys.nbytes + layer.values.nbytes for layer in cache.layers]
    report = handle.report().to_dict()
    assert report["kv_bytes"]["per_layer"] == held == kv.kv_bytes(cache)
    with torch.no_grad():
        full = model(**inputs).past_key_values
    assert report["kv_bytes"]["before"] == sum(kv.kv_bytes(full))
    copied = copy.deepcopy(cache)
    assert copied.get_seq_length() == cache.get_seq_length() == inputs["input_ids"].shape[1]


def test_text_only_prompts_are_untouched(tiny_model):
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 2)
    with torch.no_grad():
        plain = model(**inputs)
        with vtc.patched(model, oracle.Norms(**BOTH)) as handle:
            patched = model(**inputs)
            assert handle.last is None
    assert torch.equal(plain.logits, patched.logits)
    assert not kv.is_shrunk(patched.past_key_values)


def test_embeddings_instead_of_ids(tiny_model):
    """``inputs_embeds`` with placeholders still in place: found by comparing embeddings."""
    model, case = tiny_model("llava-clip"), tiny.CASES["llava-clip"]
    inputs = tiny.alone(case, 1)
    with torch.no_grad(), vtc.patched(model, oracle.Norms(**BOTH)) as handle:
        expected = model(**inputs).logits
        kept = [i.kept for i in handle.last.images]
        embeds = model.get_input_embeddings()(inputs["input_ids"])
        out = model(inputs_embeds=embeds, attention_mask=inputs["attention_mask"], pixel_values=inputs["pixel_values"])
        assert all(torch.equal(a, i.kept) for a, i in zip(kept, handle.last.images, strict=True))
    assert torch.equal(out.logits, expected)


@pytest.mark.parametrize("method", ["stages", "transprune", "todre"])
def test_decode_step_compiles_to_one_graph_as_often_as_unpatched(method):
    model = tiny.CASES["llava-clip"].build()
    case = tiny.CASES["llava-clip"]
    inputs = tiny.batch(case)
    compiled = CompileConfig(backend="eager", fullgraph=True)
    compiled._compile_all_devices = True
    static = dict(cache_implementation="static", compile_config=compiled)

    def run():
        torch._dynamo.reset()
        counters.clear()
        out = model.generate(**inputs, **tiny.GENERATE, **static)
        return out, counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())

    _, graphs, _ = run()
    assert graphs > 0
    with vtc.patched(model, oracle.Norms(**BOTH) if method == "stages" else method):
        eager = model.generate(**inputs, **tiny.GENERATE, cache_implementation="static")
        again, ours, breaks = run()
    assert torch.equal(eager, again)
    assert breaks == 0
    assert ours <= graphs + 1
