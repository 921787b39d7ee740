"""Count the calls that run, so that nobody takes hooks away under one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class BusyError(RuntimeError, ValueError):
    """The model is generating; what was asked for has to wait."""


class Gate:
    """Calls of one patch that are under way, in all threads."""

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._inside: dict[int, int] = {}

    @contextmanager
    def inside(self) -> Iterator[None]:
        """One call, from its start to its end."""
        me = threading.get_ident()
        with self._free:
            self._inside[me] = self._inside.get(me, 0) + 1
        try:
            yield
        finally:
            with self._free:
                left = self._inside[me] - 1
                if left:
                    self._inside[me] = left
                else:
                    del self._inside[me]
                    self._free.notify_all()

    @contextmanager
    def closed(self, wait: float) -> Iterator[None]:
        """Keep new calls out; running ones get ``wait`` seconds to end.

        Raises
        ------
        BusyError
            A call still runs, or the caller stands inside of one.
        """
        me, until = threading.get_ident(), time.monotonic() + wait
        with self._free:
            if me in self._inside:
                raise BusyError(
                    "A call of this patched model is running in this very thread: take the patch off after it."
                )
            self._forget_dead()
            while self._inside:
                left = until - time.monotonic()
                if left <= 0 or not self._free.wait(left):
                    self._forget_dead()
                    if self._inside:
                        raise BusyError(
                            f"The model is running in {len(self._inside)} other thread(s): wait for them to end "
                            "(join the thread that generates), then patch or unpatch. Nothing was changed."
                        )
            yield

    def _forget_dead(self) -> None:
        alive = {thread.ident for thread in threading.enumerate()}
        for ident in [i for i in self._inside if i not in alive]:
            del self._inside[ident]

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a copy of a model runs nothing yet

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
