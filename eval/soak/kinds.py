"""Kinds of calls: each runs once on a patched model and gives the answers it got beside those it should have got."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import pickle
import queue
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

import vtc
from vtc.engine.gate import BusyError

from .world import MODES, Answer, Broken, Refused, World

Pairs = Iterator[tuple[Answer, list[Answer]] | Refused | Broken]
"""An answer and those of which it must be one, or a refusal, or the planned end of a call without an answer."""
Kind = Callable[[World, Any, str, random.Random], Pairs]

IMAGES = ("one image", "another image")
KEEP, WEAKER = KEEPS = 0.5, 0.75


def plain_call(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Any prompt, in any mode of generation."""
    prompt = rng.choice(list(world.prompts))
    mode = rng.choice(list(MODES))
    yield world.run(prompt, mode), [world.expected(method, prompt, mode, KEEP)]


def turns(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """A second turn on the cache of the first."""
    yield world.turns(), [world.second(method, KEEP)]


class Queue(BaseStreamer):
    """Tokens as another thread reads them."""

    def __init__(self) -> None:
        self.tokens: queue.Queue = queue.Queue()

    def put(self, value: torch.Tensor) -> None:
        """Take tokens from ``generate``."""
        self.tokens.put(value.reshape(-1))

    def end(self) -> None:
        """No further token comes."""
        self.tokens.put(None)


def stream(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Tokens that stream out of a thread."""
    prompt, streamer = rng.choice(IMAGES), Queue()
    with _threads([lambda: world.run(prompt, streamer=streamer)]) as found:
        ids = torch.cat(list(iter(streamer.tokens.get, None)))
    want = world.expected(method, prompt, "greedy", KEEP)
    yield Answer(ids[None], None), [Answer(want.ids, None)]
    yield found[0], [want]


def parallel(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Several threads with a prompt each."""
    prompts = [rng.choice(list(world.prompts)) for _ in range(world.threads)]
    with _threads([lambda p=p: world.run(p) for p in prompts]) as found:  # type: ignore[misc]
        pass
    for prompt, answer in zip(prompts, found, strict=True):
        yield answer, [world.expected(method, prompt, "greedy", KEEP)]


def interrupted(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Ctrl-C at a random time, then another prompt."""
    yield from _ctrl_c(lambda: world.run("one image"), rng, world.expected(method, "one image", "greedy", KEEP))
    yield world.run("another image"), [world.expected(method, "another image", "greedy", KEEP)]


def interrupted_beside(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Ctrl-C at a random time while another thread generates, which goes on."""
    prompt = rng.choice(list(world.prompts))
    with _threads([lambda: world.run(prompt)]) as found:
        yield from _ctrl_c(lambda: world.run("one image"), rng, world.expected(method, "one image", "greedy", KEEP))
        after = world.run("another image")
    yield found[0], [world.expected(method, prompt, "greedy", KEEP)]
    yield after, [world.expected(method, "another image", "greedy", KEEP)]


def _ctrl_c(body: Callable[[], Answer], rng: random.Random, want: Answer) -> Pairs:
    """Run with an alarm clock that rings as Ctrl-C does."""
    answer, struck = None, None
    before = signal.signal(signal.SIGALRM, _ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-3, 0.08))
            answer = body()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt as error:
        struck = Broken(error.with_traceback(None))
    finally:
        signal.signal(signal.SIGALRM, before)
    if answer is not None:
        yield answer, [want]
    elif struck is not None:
        yield struck


def _ring(*args: Any) -> None:
    raise KeyboardInterrupt


def failed(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """An exception in some module, then another prompt."""
    module = rng.choice([m for _, m in world.model.named_modules() if not isinstance(m, torch.nn.ModuleList)])
    hook = module.register_forward_pre_hook(_fail)
    try:
        yield world.run("one image"), [world.expected(method, "one image", "greedy", KEEP)]
    except ZeroDivisionError as error:
        yield Broken(error.with_traceback(None))
    finally:
        hook.remove()
    yield world.run("another image"), [world.expected(method, "another image", "greedy", KEEP)]


def _fail(*args: Any) -> None:
    raise ZeroDivisionError


def switched_off(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """One thread inside of ``disabled()`` while another runs pruned."""
    first, second = rng.choice(list(world.prompts)), rng.choice(list(world.prompts))
    with _threads([lambda: world.run(second)]) as found:
        with handle.disabled():
            off = world.run(first)
    yield off, [world.expected(None, first, "greedy", KEEP)]
    yield found[0], [world.expected(method, second, "greedy", KEEP)]


def keep_changed(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """``keep`` moves under running calls: each call runs with one of the values it had."""
    prompt = rng.choice(list(world.prompts))
    either = [world.expected(method, prompt, "greedy", keep) for keep in (KEEP, WEAKER)]
    # the forwards of an uncached generation are calls of their own: only cached ones have one value
    try:
        with _threads([lambda: world.run(prompt), lambda: world.run(prompt)]) as found:
            for _ in range(10):
                handle.keep = rng.choice((KEEP, WEAKER))
                time.sleep(rng.uniform(0, 0.01))
    finally:
        handle.keep = KEEP
    for answer in found:
        yield answer, either


def patched_meanwhile(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Another thread generates while this one takes the patch off: it waits, or is refused."""
    prompt = rng.choice(list(world.prompts))
    with _threads([lambda: world.run(prompt)]) as found:
        time.sleep(rng.uniform(0, 0.03))
        refused = _refusal(BusyError, lambda: handle.remove(wait=rng.choice((0.0, 1.0))))
    if refused is not None:
        yield refused
        yield world.run(prompt), [world.expected(method, prompt, "greedy", KEEP)]
    # the call may have begun behind the end of the patch
    yield found[0], [world.expected(x, prompt, "greedy", KEEP) for x in (method, None)]


def unpatched_within(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """A hook inside of a call takes the patch off: it is refused, and the call goes on."""
    prompt = rng.choice(IMAGES)
    refusals: list[Refused | None] = []
    body = rng.choice([m for n, m in world.model.named_modules() if n.endswith(("mlp", "lm_head"))])
    hook = body.register_forward_pre_hook(
        lambda *args: refusals.append(_refusal(BusyError, lambda: vtc.unpatch(world.model)))
    )
    try:
        answer = world.run(prompt)
    finally:
        hook.remove()
    yield answer, [world.expected(method, prompt, "greedy", KEEP)]
    for refused in refusals[:1] or [None]:
        if refused is None:
            raise LookupError("the patch was taken off inside of a call")
        yield refused


def wrong_keep(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """``keep`` is set to what it cannot be: it is refused, and what it was still holds."""
    prompt = rng.choice(list(world.prompts))
    refused = _refusal(ValueError, lambda: setattr(handle, "keep", rng.choice((0, -1, 1.5, float("nan")))))
    if refused is None:
        raise LookupError("an impossible keep was taken")
    yield refused
    yield world.run(prompt), [world.expected(method, prompt, "greedy", KEEP)]


def beside(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Two patched models at the same time, in a thread each."""
    first, second = rng.choice(list(world.prompts)), rng.choice(list(world.other.prompts))
    model, another = copy.deepcopy(world.other.unused), rng.choice(world.methods)
    world.other.patch(another, model=model)
    bodies = [lambda: world.run(first), lambda: world.other.run(second, model=model)]
    with _threads(bodies) as found:
        pass
    yield found[0], [world.expected(method, first, "greedy", KEEP)]
    yield found[1], [world.other.expected(another, second, "greedy", KEEP)]


def _refusal(kind: type[Exception], act: Callable[[], Any]) -> Refused | None:
    """Do something; the refusal it met with, None when it was done."""
    try:
        act()
    except kind as error:
        return Refused(error)
    return None


def copied(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """A copy of the patched model is a patched model of its own."""
    if rng.random() < 0.5:
        twin = copy.deepcopy(world.model)
    else:
        source = copy.deepcopy(world.unused)
        world.patch(method, model=source)
        twin = pickle.loads(pickle.dumps(source))
    prompt = rng.choice(list(world.prompts))
    yield world.run(prompt, model=twin), [world.expected(method, prompt, "greedy", KEEP)]
    vtc.unpatch(twin)
    yield world.run(prompt, model=twin), [world.expected(None, prompt, "greedy", KEEP)]
    yield world.run(prompt), [world.expected(method, prompt, "greedy", KEEP)]


def again(world: World, handle: Any, method: str, rng: random.Random) -> Pairs:
    """Off and on again."""
    prompt = rng.choice(list(world.prompts))
    vtc.unpatch(world.model)
    yield world.run(prompt), [world.expected(None, prompt, "greedy", KEEP)]
    world.patch(method)
    yield world.run(prompt), [world.expected(method, prompt, "greedy", KEEP)]


KINDS: dict[str, Kind] = {
    "one call": plain_call,
    "second turn on a cache": turns,
    "stream out of a thread": stream,
    "several threads": parallel,
    "two models at once": beside,
    "after Ctrl-C": interrupted,
    "Ctrl-C beside a thread": interrupted_beside,
    "after an exception": failed,
    "disabled() beside a pruned call": switched_off,
    "keep changed meanwhile": keep_changed,
    "unpatched meanwhile": patched_meanwhile,
    "unpatched within a call": unpatched_within,
    "an impossible keep": wrong_keep,
    "deepcopy and pickle": copied,
    "unpatched and patched again": again,
}


@contextlib.contextmanager
def _threads(bodies: list[Callable[[], Answer]]) -> Iterator[list[Answer]]:
    """Run bodies in threads of clean contexts; their results, in order, once the block is left."""
    found: list[Any] = [None] * len(bodies)

    def run(number: int) -> None:
        try:
            found[number] = bodies[number]()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            found[number] = error

    threads = [threading.Thread(target=contextvars.Context().run, args=(run, i)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        for thread in threads:
            thread.join()
    for result in found:
        if isinstance(result, BaseException):
            raise result
