"""Count the calls that run, so that nobody takes hooks away under one.

Ctrl-C may arrive between any two steps of this file. So nothing here is counted up and down: a call holds a ticket,
which is over by one assignment, or when the frame that held it is gone; and the way in takes no lock, which an
interrupt in the wrong place would leave locked for all other threads.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PAUSE = 0.002  # seconds between two looks at who is inside


class BusyError(RuntimeError, ValueError):
    """The model is generating; what was asked for has to wait."""


class Ticket:
    """One call under way: its thread, None once it is over."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self) -> None:
        self.thread: int | None = threading.get_ident()


class Tickets:
    """Those of one purpose that are held, in all threads, oldest first."""

    def __init__(self) -> None:
        self._known: list[weakref.ref[Ticket]] = []

    @contextmanager
    def held(self) -> Iterator[Ticket]:
        """Hold one inside of a block."""
        ticket = Ticket()
        known = weakref.ref(ticket)
        try:
            self._known.append(known)
            yield ticket
        finally:
            ticket.thread = None
            self._forget()

    def valid(self) -> list[Ticket]:
        """Those that are not over."""
        held = [known() for known in list(self._known)]
        return [ticket for ticket in held if ticket is not None and ticket.thread is not None]

    def _forget(self) -> None:
        """Leave out what is over: one by one, since other threads add to the same list."""
        for known in list(self._known):
            ticket = known()
            if ticket is None or ticket.thread is None:
                with suppress(ValueError):  # another thread was quicker
                    self._known.remove(known)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a copy of a model runs nothing yet

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]


class Gate:
    """Calls of one patch that are under way, in all threads."""

    def __init__(self) -> None:
        self._calls, self._shutters = Tickets(), Tickets()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """One call, from its start to its end."""
        with self._calls.held() as ticket:
            # first the ticket, then the look: whoever shuts the gate does it the other way round
            while self._shutters.valid() and not self._holds(ticket):
                ticket.thread = None
                time.sleep(PAUSE)
                ticket.thread = threading.get_ident()
            yield

    def _holds(self, ticket: Ticket) -> bool:
        """True when the thread of a ticket has another one: its call began before the gate was shut."""
        return any(other is not ticket and other.thread == ticket.thread for other in self._calls.valid())

    def threads(self) -> set[int]:
        """Living threads with a call under way."""
        alive = {thread.ident for thread in threading.enumerate()}
        return {ticket.thread for ticket in self._calls.valid() if ticket.thread in alive}  # type: ignore[misc]

    @contextmanager
    def closed(self, wait: float) -> Iterator[None]:
        """Keep new calls out; running ones, and others who shut the gate, get ``wait`` seconds to end.

        Raises
        ------
        BusyError
            A call still runs, or the caller stands inside of one.
        """
        if threading.get_ident() in self.threads():
            raise BusyError("A call of this patched model is running in this very thread: take the patch off after it.")
        until = time.monotonic() + wait
        with self._shutters.held() as ticket:
            while self.threads() or self._shutters.valid()[0] is not ticket:
                if time.monotonic() >= until:
                    raise BusyError(
                        f"The model is running in {max(1, len(self.threads()))} other thread(s): wait for them to end "
                        "(join the thread that generates), then patch or unpatch. Nothing was changed."
                    )
                time.sleep(PAUSE)
            yield
