"""Answers token by token, with clocks that tell the first token from the rest."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vtc.chat import decode, new_tokens

from .limits import MAX_NEW_TOKENS

_RATED = 6
"""Tokens an answer needs for a rate."""


@dataclass(frozen=True)
class Partial:
    """An answer as far as it has come; times in seconds, ``rate`` in tokens per second after the first.

    An answer of a few tokens has no rate: its gaps say more about the machine's other work than about the model.
    """

    text: str
    tokens: int
    first: float | None
    rate: float | None
    total: float
    done: bool


class _Cancelled(Exception):
    """Nobody is listening any more."""


class _Tap:
    """Streamer for ``generate``: hands every token over with its time, and stops the run when told to."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Any] = queue.Queue()
        self.stopped = threading.Event()
        self._prompt = True

    def put(self, value: Any) -> None:
        """Take a token; the first call brings the prompt."""
        if self.stopped.is_set():
            raise _Cancelled
        if self._prompt:
            self._prompt = False
            return
        self.queue.put((time.perf_counter(), value.reshape(-1).tolist()))

    def end(self) -> None:
        """Do nothing; the thread reports its end itself."""


def stream_answer(
    model: Any, processor: Any, inputs: dict[str, Any], limit: int = MAX_NEW_TOKENS, warm_up: bool = True
) -> Iterator[Partial]:
    """Answer greedily and yield after every token; closing the iterator stops the model.

    Parameters
    ----------
    model, processor, inputs
        Patched or not; what :func:`media_inputs` built.
    limit : int
        Most new tokens.
    warm_up : bool
        Generate one token before the clock starts.

    Yields
    ------
    Partial
        The last one has ``done=True``.
    """
    if warm_up:
        new_tokens(model, inputs, 1)
    tap, start = _Tap(), time.perf_counter()
    worker = threading.Thread(target=_run, args=(model, inputs, limit, tap), daemon=True)
    worker.start()
    ids: list[int] = []
    times: list[float] = []
    try:
        while True:
            items = _waiting(tap.queue)
            for item in items:
                if isinstance(item, BaseException):
                    raise item
                if item is not None:
                    times.append(item[0])
                    ids += item[1]
            if items[-1] is None:
                break
            yield _partial(processor, ids, times, start, False)
        yield _partial(processor, ids, times, start, True)
    finally:
        tap.stopped.set()
        worker.join()


def _waiting(source: queue.Queue[Any]) -> list[Any]:
    """Everything that waits, at least one item: a slow reader catches up instead of falling behind."""
    items = [source.get()]
    while not source.empty():
        items.append(source.get())
    return items


def _run(model: Any, inputs: dict[str, Any], limit: int, tap: _Tap) -> None:
    try:
        new_tokens(model, inputs, limit, tap)
        tap.queue.put(None)
    except _Cancelled:
        tap.queue.put(None)
    except BaseException as error:
        tap.queue.put(error)


def _partial(processor: Any, ids: list[int], times: list[float], start: float, done: bool) -> Partial:
    import torch

    text = decode(processor, torch.tensor([ids], dtype=torch.long))[0] if ids else ""
    span = times[-1] - times[0] if len(times) > 1 else 0.0
    rate = (len(times) - 1) / span if len(times) >= _RATED and span > 0 else None
    first = times[0] - start if times else None
    return Partial(text, len(ids), first, rate, (times[-1] if times else time.perf_counter()) - start, done)
