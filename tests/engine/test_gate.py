"""The gate under interrupts: one is raised before every line that it runs, and nobody is left inside."""

from __future__ import annotations

import sys
import threading

import pytest

from vtc.engine import gate as module
from vtc.engine.gate import BusyError, Gate


def struck(body, line):
    """Run ``body`` and raise KeyboardInterrupt before the ``line``-th line of the gate; False when it has fewer."""
    seen = [0]

    def local(frame, event, arg):
        if event == "line":
            seen[0] += 1
            if seen[0] == line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return local

    sys.settrace(lambda frame, event, arg: local if frame.f_code.co_filename == module.__file__ else None)
    try:
        body()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def enters(gate):
    """True when another thread gets in and out."""
    done = []

    def call():
        with gate.inside():
            done.append(True)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(5)
    return bool(done)


def call(gate):
    with gate.inside(), gate.inside():
        pass


def shut(gate):
    with gate.closed(1.0):
        pass


@pytest.mark.parametrize("body", [call, shut])
def test_an_interrupt_at_any_line_leaves_nobody_inside(body):
    gate, line = Gate(), 1
    while struck(lambda: body(gate), line):
        assert gate.threads() == set(), line
        assert enters(gate), line
        with gate.closed(0.0):
            pass
        line += 1
    assert line > 10


def test_a_running_call_keeps_it_open():
    gate, go, inside = Gate(), threading.Event(), threading.Event()

    def call():
        with gate.inside():
            inside.set()
            go.wait(5)

    thread = threading.Thread(target=call)
    thread.start()
    inside.wait(5)
    with pytest.raises(BusyError, match="1 other thread"), gate.closed(0.05):
        pass
    go.set()
    with gate.closed(5.0):
        assert gate.threads() == set()
        waiting = threading.Thread(target=call)
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(5)
    assert not waiting.is_alive()
    thread.join()
    with gate.inside(), pytest.raises(BusyError, match="this very thread"), gate.closed(0.0):
        pass
