"""What a policy remembers: resets, rollback, forgotten resets, failing calls, states side by side."""

import copy
import pickle
import threading
import warnings
from functools import cache

import pytest
import torch

import vtc

from support.policies import PATCHES, Prismatic, observation

pytest.importorskip("timm")


@cache
def built(seed=0):
    policy = Prismatic()
    with torch.no_grad():
        for p in policy.language_model.parameters():
            p.mul_(1 + 0.1 * seed)
    return policy


@pytest.fixture
def policy():
    found = built()
    yield found
    assert "_vtc_handle" not in found.language_model.__dict__, "a test left its model patched"


def patched(policy, method="vla-pruner", **options):
    return vtc.patched(policy.language_model, method, keep=0.25, images=vtc.Columns(1, PATCHES), **options)


def act(policy, seed, rows=2, words=(6, 4), **options):
    out = policy.act(*observation(seed, rows=rows, words=words), **options)
    return torch.stack(out.logits, 1)


def calls(handle):
    return {row: slot["vla-pruner"]["calls"] for row, slot in handle.state.rows.items() if slot}


def kept(handle):
    return [log.kept.tolist() for log in handle.last.images]


def test_after_a_reset_a_handle_is_as_new(policy):
    with patched(policy) as handle:
        fresh = [act(policy, seed) for seed in range(5)]
        for seed in range(20, 23):
            act(policy, seed)
        handle.reset()
        assert handle.last is None and not handle.state.rows
        again = [act(policy, seed) for seed in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(fresh, again, strict=True))


def test_resetting_one_environment_leaves_the_other(policy):
    with patched(policy) as handle:
        for seed in range(4):
            act(policy, seed)
        state = handle.memory.save()
        act(policy, 4)
        undisturbed = kept(handle)
        handle.memory.load(state)
        handle.reset(torch.tensor([True, False]))
        assert calls(handle) == {1: 4}
        for t, seed in enumerate((4, 5, 6)):
            act(policy, seed)
            assert len(kept(handle)[0]) == 16 and len(kept(handle)[1]) == 4
            assert t or kept(handle)[1] == undisturbed[1]
        act(policy, 7)
        assert [len(k) for k in kept(handle)] == [4, 4]


def test_a_mask_of_another_length(policy):
    with patched(policy) as handle:
        handle.reset([True] * 5)
        act(policy, 0)
        with pytest.raises(ValueError, match="3 entries, and the last call ran 2 environments"):
            handle.reset([True, False, True])


def test_saved_states_can_be_loaded_again_and_again(policy):
    with patched(policy) as handle:
        for seed in range(4):
            act(policy, seed)
        state = handle.memory.save()
        futures = []
        for _ in range(2):
            handle.memory.load(state)
            futures.append([act(policy, seed) for seed in (4, 5)])
        assert torch.equal(futures[0][1], futures[1][1])
        other = pickle.loads(pickle.dumps(state))
        handle.reset()
        handle.memory.load(other)
        assert torch.equal(act(policy, 4), futures[0][0])
        assert state.rows[0]["vla-pruner"]["calls"] == 4
        with pytest.raises(TypeError, match=r"handle\.memory\.save\(\)"):
            handle.memory.load({})


def test_states_of_two_robots_on_one_model(policy):
    with patched(policy) as handle:
        alone = []
        for first in (0, 10):
            handle.reset()
            alone.append([act(policy, first + t) for t in range(5)])
        handle.reset()
        with handle.memory() as left, handle.memory() as right:
            pass
        for t in range(5):
            for number, state in enumerate((left, right)):
                with handle.memory(state):
                    assert torch.equal(act(policy, 10 * number + t), alone[number][t])
        assert not handle.state.rows and left.rows[0] is not right.rows[0]


def test_threads_with_states_of_their_own(policy):
    with patched(policy) as handle:
        alone = {}
        for first in (0, 10):
            with handle.memory():
                alone[first] = [act(policy, first + t) for t in range(5)]
        found, errors, barrier = {0: [], 10: []}, [], threading.Barrier(2)

        def run(first):
            try:
                with handle.memory():
                    for t in range(5):
                        barrier.wait(timeout=120)
                        found[first].append(act(policy, first + t))
            except BaseException as error:
                errors.append(error)
                barrier.abort()

        threads = [threading.Thread(target=run, args=(first,)) for first in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        for first, expected in alone.items():
            assert all(torch.equal(a, b) for a, b in zip(found[first], expected, strict=True))


def test_two_policies_in_one_process(policy):
    other = built(1)
    with patched(other):
        expected = [act(other, 30 + t) for t in range(5)]
    with patched(policy) as first, patched(other) as second:
        for t in range(5):
            act(policy, t)
            assert torch.equal(act(other, 30 + t), expected[t])
        first.reset()
        assert calls(second) == {0: 5, 1: 5}


def test_a_forgotten_reset_is_noticed(policy):
    """A longer instruction, in one row of two: its memory goes, with a warning that says what to do."""
    with patched(policy) as handle:
        for seed in range(4):
            act(policy, seed)
        with pytest.warns(UserWarning, match=r"environment 1 changed without a reset.*handle\.reset\(\)"):
            act(policy, 4, words=(6, 5))
        assert calls(handle) == {0: 5, 1: 1}
        assert [len(k) for k in kept(handle)] == [4, 16]
        handle.reset([False, True])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            act(policy, 5)
        assert calls(handle) == {0: 6, 1: 1}


@pytest.mark.parametrize("rows", [1, 3])
def test_another_number_of_environments_clears_all(policy, rows):
    with patched(policy) as handle:
        for seed in range(4):
            act(policy, seed)
        with pytest.warns(UserWarning, match=f"{rows} environments .rows. instead of 2"):
            act(policy, 4, rows=rows)
        assert calls(handle) == dict.fromkeys(range(rows), 1)
        handle.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            act(policy, 4, rows=2)


class Stop(Exception):
    pass


@pytest.mark.parametrize("where", ["prefill", "decode", "between"])
def test_a_call_that_raises_is_not_remembered(policy, where):
    model = policy.language_model

    def fail(module, args, kwargs):
        if (kwargs.get("inputs_embeds") is not None) == (where == "prefill"):
            raise Stop

    def stop(ids, scores):
        if ids.shape[1] >= 3:
            raise Stop
        return scores

    with patched(policy) as handle:
        expected = [act(policy, seed) for seed in range(5)]
        handle.reset()
        for seed in range(4):
            act(policy, seed)
            with pytest.raises(Stop):
                if where == "between":
                    act(policy, 40 + seed, logits_processor=[stop])
                else:
                    hook = model.model.layers[4].register_forward_pre_hook(
                        lambda module, args, kwargs: fail(
                            module, args, {"inputs_embeds": None if args[0].shape[1] == 1 else 1}
                        ),
                        with_kwargs=True,
                    )
                    try:
                        act(policy, 40 + seed)
                    finally:
                        hook.remove()
            assert calls(handle) == {0: seed + 1, 1: seed + 1}
        assert torch.equal(act(policy, 4), expected[4])


def test_calls_that_are_marked_by_hand(policy):
    """A policy with a loop of its own: the block is the call, whatever raises inside."""
    obs = observation(0, rows=2, words=(6, 4))
    with torch.no_grad(), patched(policy) as handle:
        with handle.memory.call():
            policy.loop(*obs)
        assert calls(handle) == {0: 1, 1: 1} and handle.state.pending is None
        with pytest.raises(Stop), handle.memory.call():
            policy.loop(*obs)
            raise Stop
        assert calls(handle) == {0: 1, 1: 1}
        with pytest.raises(ValueError, match="second prompt"), handle.memory.call():
            policy.loop(*obs)
            policy.loop(*obs)
        policy.loop(*obs)
        with handle.memory.call():
            policy.act(*obs)
        assert calls(handle) == {0: 3, 1: 3}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (dict(num_beams=2), "beam search"),
        (dict(num_return_sequences=2, do_sample=True), "several sequences"),
        (dict(prompt_lookup_num_tokens=3), "prompt lookup"),
    ],
)
def test_what_has_no_one_sequence_per_environment_is_refused(policy, options, text):
    with patched(policy) as handle:
        with pytest.raises(ValueError, match=text):
            act(policy, 0, **options)
        assert not calls(handle)
        assert act(policy, 0, num_beams=1).shape[1] == 7
    with patched(policy, temporal=False):
        policy.act(*observation(0), num_beams=2)


def test_assistants_are_refused(policy):
    with patched(policy), pytest.raises(ValueError, match="assisted generation"):
        act(policy, 0, rows=1, assistant_model=built(1).language_model)


def test_no_other_method_beside_it(policy):
    methods = [vtc.methods.VLAPruner(keep=0.5), vtc.methods.FastV(keep=0.5, layer=2)]
    with pytest.raises(ValueError, match="no other method may drop any"):
        vtc.patch(policy.language_model, methods, images=vtc.Columns(1, PATCHES))


def test_a_disabled_handle_learns_nothing(policy):
    with patched(policy) as handle:
        act(policy, 0)
        with handle.disabled():
            act(policy, 1)
        assert calls(handle) == {0: 1, 1: 1}


def test_inference_mode_and_copies(policy):
    with patched(policy) as handle:
        with torch.inference_mode():
            for seed in range(3):
                act(policy, seed)
        state = handle.memory.save()
        found = act(policy, 3)
        twin = copy.deepcopy(policy)
        other = twin.language_model.__dict__["_vtc_handle"]
        other.memory.load(state)
        assert torch.equal(act(twin, 3), found)
        assert calls(handle) == {0: 4, 1: 4} == calls(other)
        keys = set(policy.language_model.state_dict())
    assert keys == set(policy.language_model.state_dict())


OLD = {
    "using": lambda handle: handle.using(),
    "save_state": lambda handle: handle.save_state(),
    "load_state": lambda handle: handle.load_state(handle.memory.save()),
    "policy_call": lambda handle: handle.policy_call(),
}


@pytest.mark.parametrize("name", OLD)
def test_old_names_still_work_and_name_the_new_one(tiny_model, name):
    with vtc.patched(tiny_model("llava-clip"), "vla-pruner") as handle:
        with pytest.warns(DeprecationWarning, match=rf"handle\.{name}\(.*is now handle\.memory"):
            found = OLD[name](handle)
        if hasattr(found, "__enter__"):
            with found:
                assert handle.state is not None
