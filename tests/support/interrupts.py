"""Ctrl-C at a chosen point of a piece of code, out of all the points where Python may raise it."""

from __future__ import annotations

import contextlib
import dis
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from types import FrameType
from typing import Any

import vtc

ROOT = str(Path(vtc.__file__).parent)
# signals are handled behind calls, at the start of a function and of a further round of a loop
CHECKED = {
    *("RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE"),
    *("CALL", "CALL_KW", "CALL_FUNCTION", "CALL_FUNCTION_KW", "CALL_FUNCTION_EX", "CALL_METHOD"),
}


class Points:
    """Meets the points of what runs inside of :func:`traced`, and raises at one of them.

    Parameters
    ----------
    target : hashable, optional
        Point to raise at, the first time it is met.

    Attributes
    ----------
    met : dict
        Points in the order they were first met, with the line of each in words.
    struck : bool
    """

    def __init__(self, target: Hashable = None) -> None:
        self.target, self.met, self.struck = target, dict[Hashable, str](), False

    def enter(self, frame: FrameType, event: str, arg: object) -> Any:
        """Trace function of a new frame."""
        if not _ours(frame):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        before = [-1]

        def step(frame: FrameType, event: str, arg: object) -> Any:
            if event == "opcode":
                last, before[0] = before[0], frame.f_lasti
                if last >= 0 and dis.opname[frame.f_code.co_code[last]] in CHECKED:
                    self._meet(frame)
            return step

        return step

    def _meet(self, frame: FrameType) -> None:
        point = _place(frame)
        if frame.f_code.co_filename == contextlib.__file__ and frame.f_back is not None:
            point = (*point, *_place(frame.f_back))  # all context managers share that code
        self.met.setdefault(point, f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
        if point == self.target and not self.struck:
            self.struck = True
            sys.settrace(None)
            raise KeyboardInterrupt


def _place(frame: FrameType) -> tuple:
    return frame.f_code.co_filename, frame.f_code.co_firstlineno, frame.f_code.co_name, frame.f_lasti


def _ours(frame: FrameType) -> bool:
    name, caller = frame.f_code.co_filename, frame.f_back
    if name == contextlib.__file__ and caller is not None:
        return caller.f_code.co_filename.startswith(ROOT)
    return name.startswith(ROOT)


def points(body: Callable[[], object]) -> dict[Hashable, str]:
    """All points that ``body`` comes by."""
    found = Points()
    _run(body, found)
    return found.met


def strike(body: Callable[[], object], target: Hashable) -> bool:
    """Run ``body`` and interrupt it at a point; True when the interrupt came out, as it must."""
    found = Points(target)
    try:
        _run(body, found)
    except KeyboardInterrupt:
        return True
    return False


def _run(body: Callable[[], object], found: Points) -> None:
    before = sys.gettrace()
    sys.settrace(found.enter)
    try:
        body()
    finally:
        sys.settrace(before)
