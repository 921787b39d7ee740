"""Interruptions and threads: a call is the pruned one or the plain one, and the next call starts afresh."""

from __future__ import annotations

import queue
import threading

import pytest
import torch

import vtc

from support import oracle, tiny

METHODS = ["vtc-cls", "divprune", "fastv", "todre", "transprune"]


@pytest.fixture
def setup(tiny_model):
    return tiny_model("llava-clip"), tiny.alone(tiny.CASES["llava-clip"], 0), tiny.alone(tiny.CASES["llava-clip"], 1)


def answer(model, inputs):
    return oracle.new_tokens_of(oracle.generate(model, inputs).sequences, inputs)


def at(module, number, act):
    """Run ``act`` before the ``number``-th call of a module."""
    seen = [0]

    def hook(*_):
        seen[0] += 1
        if seen[0] == number:
            act()

    return module.register_forward_pre_hook(hook, prepend=True)


def interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["layer", "decoder", "tower"])
@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_ctrl_c_leaves_no_call_open(setup, method, number, place):
    model, first, second = setup
    decoder = model.get_decoder()
    modules = {"layer": decoder.layers[3], "decoder": decoder, "tower": model.model.vision_tower}
    with vtc.patched(model, method, keep=0.25) as handle:
        want = answer(model, second)
        kept = [i.kept.tolist() for i in handle.last.images]
    with vtc.patched(model, method, keep=0.25) as handle:
        hook = at(modules[place], 1 if place == "tower" else number, interrupt)
        with pytest.raises(KeyboardInterrupt):
            answer(model, first)
        hook.remove()
        assert torch.equal(answer(model, second), want)
        assert [i.kept.tolist() for i in handle.last.images] == kept


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_disabled_holds_for_the_thread_that_enters(setup, method, number):
    """While one thread generates, another one enters ``disabled()`` and measures the plain model."""
    model, inputs, _ = setup
    plain = answer(model, inputs)
    with vtc.patched(model, method, keep=0.25) as handle:
        want, found = answer(model, inputs), []
        inside = threading.Event()

        def other():
            with handle.disabled():
                inside.set()
                found.append(answer(model, inputs))

        thread = threading.Thread(target=other)
        hook = at(model.get_decoder().layers[3], number, lambda: (thread.start(), inside.wait(20)))
        mine = answer(model, inputs)
        thread.join(60)
        hook.remove()
        assert handle.enabled
    assert torch.equal(mine, want) and not torch.equal(want, plain)
    assert torch.equal(found[0], plain)


def test_unpatch_under_a_running_call_is_refused_and_the_thread_goes_on(setup):
    model, inputs, _ = setup
    jobs, results = queue.Queue(), queue.Queue()
    entered, go = threading.Event(), threading.Event()

    def worker():
        while jobs.get():
            results.put(answer(model, inputs))

    thread = threading.Thread(target=worker)
    thread.start()
    try:
        handle = vtc.patch(model, "fastv", keep=0.25)
        want = answer(model, inputs)
        hook = at(model.get_decoder().layers[3], 1, lambda: (entered.set(), go.wait(20)))
        jobs.put(True)
        assert entered.wait(20)
        with pytest.raises(ValueError, match="other thread.*Nothing was changed"):
            handle.remove(wait=0.05)
        go.set()
        assert torch.equal(results.get(timeout=60), want)
        hook.remove()
        vtc.unpatch(model)
        for method in METHODS:
            with vtc.patched(model, method, keep=0.25):
                jobs.put(True)
                assert torch.equal(results.get(timeout=60), answer(model, inputs))
    finally:
        go.set()
        jobs.put(False)
        thread.join(60)


def test_a_scorer_of_one_thread_switches_nothing_off_in_another(tiny_model):
    case, model = tiny.CASES["qwen2_5_vl-video"], tiny_model("qwen2_5_vl-video")
    inputs = tiny.alone(case, 1)
    inside, leave = threading.Event(), threading.Event()

    def scorer(handle, given):
        if threading.current_thread().name == "slow":
            inside.set()
            leave.wait(20)
        return [torch.linspace(1, 3, int(given["video_grid_thw"][0][0]))]

    def held():
        out = oracle.generate(model, inputs, max_new_tokens=2)
        cache = next(v for v in out.values() if hasattr(v, "layers"))
        return [layer.keys.shape[2] for layer in cache.layers]

    plain = held()
    with vtc.patched(model, "quota", keep=0.3, scorer=scorer) as handle:
        want, found = held(), []
        slow = threading.Thread(target=lambda: found.append(held()), name="slow")
        slow.start()
        try:
            assert inside.wait(20)
            assert held() == want
        finally:
            leave.set()
            slow.join(60)
        assert found == [want] and handle.enabled and held() == want != plain
