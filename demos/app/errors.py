"""Errors as messages for people who look at a page: what is wrong and what to do, no traces, no paths."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

log = logging.getLogger("vtc.demo")
_EXPECTED = (ValueError, TypeError, OSError, ImportError, NotImplementedError)
_PATH = re.compile(r"(?<![\w:/])(?:~|[A-Za-z]:)?(?:[/\\][\w.@+-]+)+[/\\]([\w.@+-]+)")
_LONGEST = 400


def clean(text: str) -> str:
    """One line without folders of this machine."""
    text = _PATH.sub(r"\1", " ".join(text.split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ..."


def message(error: Exception) -> gr.Error:
    """Error for the page; what nobody foresaw goes to the log with its trace."""
    if isinstance(error, gr.Error):
        return error
    if "out of memory" in str(error).lower():
        text = "The device has not enough memory for this picture and model: use a smaller picture."
        return gr.Error(text, title="Out of memory", print_exception=False)
    if isinstance(error, _EXPECTED):
        return gr.Error(clean(str(error)), title="That did not work", print_exception=False)
    log.error("unexpected error", exc_info=error)
    text = f"An unexpected {type(error).__name__}. The terminal that runs the demo shows more."
    return gr.Error(text, title="That did not work", print_exception=False)


def readable(function: Callable) -> Callable:
    """Wrap an event's function (or generator) so that every error becomes a message."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from function(*args, **kwargs)
            except Exception as error:
                raise message(error) from None

        return stream

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            raise message(error) from None

    return call
