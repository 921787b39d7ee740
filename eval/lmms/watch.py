"""Watch a base class work: which document each ``generate`` is for, what it costs, and every error it hides."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from vtc.engine.handle import Handle

from .samples import Key, Sample, samples_of


class Watch:
    """Wraps ``model.generate`` while a base class answers requests.

    Attributes
    ----------
    samples : list of Sample
        One per answered row, in the order of the calls.
    calls : int
        Calls of ``generate``.
    errors : list of str
        Tracebacks of the calls that failed, also of those the base class swallowed.
    """

    def __init__(self, handle: Handle, pad_token: int | None = None) -> None:
        self.handle, self.pad_token = handle, pad_token
        self.samples: list[Sample] = []
        self.calls = 0
        self.errors: list[str] = []
        self._waiting: list[Key] = []

    def seen(self, key: Key) -> None:
        """Note that a document was read: the next ``generate`` answers it."""
        if key not in self._waiting:
            self._waiting.append(key)

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Watch ``model`` inside the block."""
        inner = model.generate
        clock = _Clock(model)

        def generate(*args: Any, **kwargs: Any) -> Any:
            keys, self._waiting = self._waiting, []
            self.calls += 1
            self.handle.reset()
            try:
                with clock:
                    out = inner(*args, **kwargs)
            except Exception:
                self.errors.append(traceback.format_exc())
                raise
            ids = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
            self.samples += samples_of(self.handle, keys, ids, out, clock, self.pad_token)
            return out

        model.generate = generate
        try:
            yield
        finally:
            del model.generate
            clock.remove()


class _Clock:
    """Times of one ``generate``: the first forward, the first token, everything; in seconds, device synchronised."""

    def __init__(self, model: Any) -> None:
        self.device = next(model.parameters()).device
        self.prefill = self.first = self.total = 0.0
        self._running = self._begun = 0.0
        self._waiting = False
        self._hooks = [
            model.register_forward_pre_hook(self._before),
            model.register_forward_hook(self._after),
        ]

    def __enter__(self) -> None:
        self._waiting, self._begun = True, self._now()

    def __exit__(self, *error: object) -> None:
        self.total = self._now() - self._begun

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _before(self, *_: object) -> None:
        if self._waiting:
            self._running = self._now()

    def _after(self, *_: object) -> None:
        if self._waiting:
            self._waiting = False
            now = self._now()
            self.prefill, self.first = now - self._running, now - self._begun


class Documents(dict):
    """Stands in for ``task_dict`` of a base class and reports every document that is read from it.

    All classes of lmms-eval fetch documents as ``task_dict[task][split][doc_id]``, just before they answer them.
    """

    def __init__(self, inner: dict[str, Any], watch: Watch) -> None:
        super().__init__(inner)
        self._watch = watch

    def __getitem__(self, task: str) -> Any:
        return _Splits(super().__getitem__(task), task, self._watch)


class _Splits:
    def __init__(self, inner: Any, task: str, watch: Watch) -> None:
        self._inner, self._task, self._watch = inner, task, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __getitem__(self, split: str) -> Any:
        return _Rows(self._inner[split], self._task, split, self._watch)


class _Rows:
    def __init__(self, inner: Any, task: str, split: str, watch: Watch) -> None:
        self._inner, self._task, self._split, self._watch = inner, task, split, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, doc_id: Any) -> Any:
        if isinstance(doc_id, int):
            self._watch.seen((self._task, self._split, doc_id))
        return self._inner[doc_id]
