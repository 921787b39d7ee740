"""pi0: the pruned prefix and its expert against the same model with masks, and what its action rows look at."""

import copy
import threading
import warnings
from functools import cache

import pytest
import torch
import transformers

import vtc
from vtc.compat import parse
from vtc.support import typical_facts

from support import policies
from support.policies import PATCHES, Seen, alive_layers, build_pi0, masked_layers, pi0_columns, pi0_inputs, pi0_oracle

pytestmark = [
    pytest.mark.skipif(parse(transformers.__version__) < parse("5.20.0"), reason="pi0 needs transformers 5.20"),
]


@cache
def model_of(attention):
    return build_pi0(attention)


@pytest.fixture(params=["sdpa", "eager"])
def model(request):
    found = model_of(request.param)
    yield found
    assert "_vtc_handle" not in found.__dict__, "a test left its model patched"


@pytest.fixture
def plain():
    found = model_of("sdpa")
    yield found
    assert "_vtc_handle" not in found.__dict__, "a test left its model patched"


def warm(model, seeds=range(3)):
    for seed in seeds:
        model.sample_actions(**pi0_inputs(seed))


def history(handle, row):
    return handle.memory.save().rows[row]["vla-pruner"]["history"]


def test_pruned_actions_equal_masked_ones(model):
    with vtc.patched(model, "vla-pruner", keep=0.4) as handle:
        warm(model)
        for seed in (3, 4):
            inputs = pi0_inputs(seed)
            found = model.sample_actions(**inputs)
            assert [(start, rows) for start, rows in handle.last.layers] == [(0, [39, 21]), (3, [20, 11])]
            assert (found - pi0_oracle(model, handle, inputs)).abs().max() < 3e-5
            with handle.disabled():
                assert (found - model.sample_actions(**inputs)).abs().max() > 1e-2


def test_a_batch_equals_its_rows_alone(plain):
    with vtc.patched(plain, "vla-pruner", keep=0.4) as handle:
        together = [plain.sample_actions(**pi0_inputs(seed)) for seed in range(5)]
        for row, (cameras, words) in enumerate([(2, 7), (1, 5)]):
            with handle.memory():
                for seed, expected in enumerate(together):
                    inputs = {k: v[row : row + 1] for k, v in pi0_inputs(seed).items()}
                    inputs["pixel_values"] = inputs["pixel_values"][:, :cameras]
                    inputs["pixel_attention_mask"] = inputs["pixel_attention_mask"][:, :cameras]
                    length = cameras * PATCHES + words
                    inputs |= {k: inputs[k][:, :length] for k in ("input_ids", "attention_mask")}
                    assert (plain.sample_actions(**inputs)[0] - expected[row]).abs().max() < 3e-5


def test_keep_1_and_warm_up_are_bit_identical(model):
    expected = [model.sample_actions(**pi0_inputs(seed)) for seed in range(5)]
    with vtc.patched(model, "vla-pruner", keep=1.0) as handle:
        for seed, actions in enumerate(expected):
            assert torch.equal(model.sample_actions(**pi0_inputs(seed)), actions)
        handle.keep = 0.4
        handle.reset()
        for seed, actions in enumerate(expected[:3]):
            assert torch.equal(model.sample_actions(**pi0_inputs(seed)), actions)
        assert not torch.equal(model.sample_actions(**pi0_inputs(3)), expected[3])
    assert torch.equal(model.sample_actions(**pi0_inputs(4)), expected[4])


@pytest.mark.parametrize("pruned", [False, True])
def test_action_attention_equals_eager_rows(pruned):
    """Mean over action rows, heads, flow steps and the upper half of the expert's layers; 0 where pruned."""
    model = model_of("eager")
    with vtc.patched(model, "vla-pruner", keep=0.4) as handle:
        warm(model, range(4 if pruned else 1))
        inputs, seen = pi0_inputs(9), Seen({})
        handle.reset() if not pruned else None
        model.sample_actions(**inputs)
        pi0_oracle(model, handle, inputs, seen)
        for row, length in enumerate((32, 16)):
            rows = [r[row, :, 1:, :length].mean((0, 1)) for layer in (3, 4, 5) for r in seen.rows[layer]]
            assert len(rows) == 12
            found = history(handle, row)[-1]
            assert (found - torch.stack(rows).mean(0)).abs().max() < 1e-6
            assert int((found > 0).sum()) == ({32: 13, 16: 6}[length] if pruned else length)


def test_a_forward_of_its_own_equals_sampling(plain):
    """A training step or a hand-written flow: prefix and expert in one forward, and the loss has gradients."""
    inputs = pi0_inputs(5)
    timestep = torch.tensor([0.5, 0.3])
    with vtc.patched(plain, "vla-pruner", keep=0.4, warmup="semantic") as handle:
        targets = torch.zeros(2, 6, 5)
        out = plain(**inputs, timestep=timestep, actions=targets)
        alive = alive_layers(handle.last, pi0_columns(inputs, handle.last), inputs["attention_mask"], 6)
        with handle.disabled(), torch.no_grad():
            with (
                masked_layers(plain.model.vlm.language_model.layers, alive),
                masked_layers(plain.model.dit.layers, alive),
            ):
                expected = plain(**inputs, timestep=timestep, actions=targets).logits
        assert (out.logits - expected).abs().max() < 3e-5
        assert handle.last.after == 13 + 6
        out.loss.sum().backward()
    tower = plain.model.vlm.vision_tower
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.parameters())
    plain.zero_grad()


def test_facts_of_the_support_matrix(plain):
    adapter = vtc.find_adapter(plain)
    facts, typical = adapter.facts(plain), typical_facts(adapter)
    assert facts.actions == "expert" and facts.family == "pi0"
    assert (facts.decoder_layers, facts.vision_layers) == (6, 2)
    for name in ("keeps_positions", "has_class_token", "linear_layers", "no_cuts"):
        assert getattr(facts, name) == getattr(typical, name)


def test_unpatching_restores_everything(plain):
    before = [
        (n, tuple(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in plain.named_modules()
    ]
    vtc.patch(plain, "vla-pruner", keep=0.4)
    plain.sample_actions(**pi0_inputs(0))
    vtc.unpatch(plain)
    after = [(n, tuple(m.__dict__), len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in plain.named_modules()]
    assert before == after


def test_a_copied_model_is_independent(plain):
    with vtc.patched(plain, "vla-pruner", keep=0.4) as handle:
        warm(plain)
        twin = copy.deepcopy(plain)
        other = twin.__dict__["_vtc_handle"]
        inputs = pi0_inputs(3)
        assert torch.equal(twin.sample_actions(**inputs), plain.sample_actions(**inputs))
        twin.sample_actions(**pi0_inputs(4))
        assert other.state.rows[0]["vla-pruner"]["calls"] == 5
        assert handle.state.rows[0]["vla-pruner"]["calls"] == 4


def test_a_prefix_embedded_elsewhere_is_refused(plain):
    inputs = pi0_inputs(0)
    names = ("input_ids", "pixel_values", "pixel_attention_mask")
    embeds = plain.model.embed_prefix(**{k: inputs[k] for k in names})
    with vtc.patched(plain, "vla-pruner", keep=0.4), pytest.raises(ValueError, match="embedded before vtc.patch"):
        plain.model.vlm(inputs_embeds=embeds, attention_mask=inputs["attention_mask"], use_cache=True)


def test_threads_with_states_of_their_own(plain):
    """Two threads on one model, interleaved step by step, give what each gives alone."""
    seeds = {"a": range(0, 5), "b": range(10, 15)}
    with vtc.patched(plain, "vla-pruner", keep=0.4) as handle:
        alone = {}
        for name, mine in seeds.items():
            with handle.memory():
                alone[name] = [plain.sample_actions(**pi0_inputs(seed)) for seed in mine]
        found, barrier, errors = {"a": [], "b": []}, threading.Barrier(2), []

        def run(name):
            try:
                with handle.memory():
                    for seed in seeds[name]:
                        barrier.wait(timeout=60)
                        found[name].append(plain.sample_actions(**pi0_inputs(seed)))
            except BaseException as error:
                errors.append(error)
                barrier.abort()

        threads = [threading.Thread(target=run, args=(name,)) for name in seeds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and not handle.state.rows
        for name in seeds:
            assert all(torch.equal(x, y) for x, y in zip(found[name], alone[name], strict=True))


def test_two_policies_do_not_mix(plain):
    other = policies.build_pi0()
    with vtc.patched(plain, "vla-pruner", keep=0.4) as first:
        warm(plain)
        expected = plain.sample_actions(**pi0_inputs(3))
    with vtc.patched(plain, "vla-pruner", keep=0.4) as first, vtc.patched(other, "vla-pruner", keep=0.4) as second:
        for seed in range(3):
            plain.sample_actions(**pi0_inputs(seed))
            other.sample_actions(**pi0_inputs(seed + 20))
        assert torch.equal(plain.sample_actions(**pi0_inputs(3)), expected)
        assert first.state is not second.state
        second.reset()
        assert first.state.rows and not second.state.rows


def test_another_number_of_cameras_is_noticed(plain):
    with vtc.patched(plain, "vla-pruner", keep=0.4) as handle:
        warm(plain)
        with pytest.warns(UserWarning, match="image layout of environment 0 changed"):
            plain.sample_actions(**pi0_inputs(0, cameras=(1, 1)))
        calls = [handle.state.rows[row]["vla-pruner"]["calls"] for row in (0, 1)]
        assert calls == [1, 4]
        assert handle.last.layers[0][1] == [23, 21]
        handle.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            plain.sample_actions(**pi0_inputs(0))
