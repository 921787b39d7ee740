"""Errors as one readable line instead of a traceback."""

from __future__ import annotations

import os
from typing import Any

import typer
from typer.core import TyperGroup

_EXPECTED = (ValueError, TypeError, OSError, ImportError, NotImplementedError)
_LONGEST = 600


def debugging() -> bool:
    """Whether ``VTC_DEBUG=1`` asks for tracebacks and logs."""
    return os.environ.get("VTC_DEBUG", "") not in ("", "0")


def one_line(error: BaseException) -> str:
    """Message of an error on one line, of bounded length, with the type where we did not expect it."""
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, _EXPECTED):
        text = f"{type(error).__name__}: {text} (set VTC_DEBUG=1 for the traceback)"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."


class SafeGroup(TyperGroup):
    """Command group that turns every exception of a command into one line on stderr and exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            # usage errors know their own message and exit status
            if debugging() or hasattr(error, "exit_code"):
                raise
            typer.echo(f"Error: {one_line(error)}", err=True)
            raise typer.Exit(1) from None
