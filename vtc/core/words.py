"""Words of error messages: values in bounded length, and the nearest known name."""

from __future__ import annotations

import difflib
import os
import reprlib
import sys
import warnings
from collections.abc import Iterable

_LONGEST = 80
_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = _shorten.maxlong = _LONGEST
_shorten.maxlist = _shorten.maxtuple = _shorten.maxdict = 4
_shorten.maxlevel = 3


def kind(value: object) -> str:
    """Type of a value with its article: ``"an int"``."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def shown(value: object) -> str:
    """``repr`` on one line of at most some 80 characters, whatever the value is.

    Deep nesting, integers of thousands of digits and objects whose ``repr`` fails are no obstacle.
    """
    try:
        text = " ".join(_shorten.repr(value).split())
    except Exception:  # a repr that fails, or an int with more digits than Python turns into text
        return kind(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]} ..."


def nearest(name: object, known: Iterable[object]) -> str:
    """``" Did you mean 'x'?"``, or nothing when no name is near."""
    near = difflib.get_close_matches(str(name)[:_LONGEST], [str(k) for k in known if k is not None], n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def deprecated(message: str) -> None:
    """Warn of an old name where it was used: at the nearest caller outside of vtc.

    A DeprecationWarning that points into a library is shown to nobody.
    """
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    frame, level = sys._getframe(1).f_back, 3  # whoever called the function with the old name
    while frame is not None and _inside(frame.f_code.co_filename, package):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, DeprecationWarning, stacklevel=level)


def _inside(file: str, package: str) -> bool:
    return file.startswith(package + os.sep) or os.path.basename(file) == "contextlib.py"
