"""Failures are loud: lmms-eval's command line would print them and exit with status 0."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class EvaluationError(RuntimeError):
    """Some answers could not be generated; the message holds the first traceback."""


@contextmanager
def exit_under_cli() -> Iterator[None]:
    """Turn errors into exit status 1 when ``python -m lmms_eval`` is what runs us; leave them alone otherwise."""
    try:
        yield
    except Exception as error:
        if not _under_cli():
            raise
        traceback.print_exc()
        raise SystemExit(1) from error


def _under_cli() -> bool:
    frame = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "lmms_eval.__main__" and frame.f_code.co_name == "cli_evaluate":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
