"""Values users type: strengths, options, image files, names of models."""

from __future__ import annotations

import ast
import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def parse_keep(text: str) -> int | float:
    """``"16"`` is a number of tokens, ``"0.25"`` a share; the range is checked as in :func:`vtc.patch`.

    Raises
    ------
    ValueError
        Not a number, or outside the allowed range.
    """
    from vtc.core.budget import check_keep

    try:
        keep = int(text) if re.fullmatch(r"\s*[+-]?\d+\s*", text) else float(text)
    except ValueError:
        raise ValueError(
            f"keep={text!r} is no number; pass a share such as 0.25 or tokens per image such as 16."
        ) from None
    return check_keep(keep)


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """Read hyperparameters from ``name=value`` pairs; values are Python literals, or else text.

    Raises
    ------
    ValueError
        A pair without ``=`` or without a name.
    """
    options = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name:
            raise ValueError(f"--option {pair!r} is not of the form name=value, such as --option seed=1.")
        try:
            options[name] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            options[name] = text.strip()
    return options


def check_method(name: str, keep: int | float | None, options: dict[str, Any]) -> None:
    """Raise what :func:`vtc.patch` would raise for a bad name or value, before a model is loaded."""
    from vtc.methods import make_method

    if name != "auto":
        make_method(name, **({} if keep is None else {"keep": keep}), **options)


def read_image(path: Path) -> Image:
    """Read an image file as RGB, turned upright; see :func:`vtc.media.read_picture`.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not an image, a broken one, or one that is too large.
    """
    from vtc.media import read_picture

    if not path.exists():
        raise FileNotFoundError(f"Image file '{path}' does not exist.")
    return read_picture(path)


def one_reason(error: BaseException) -> str:
    """First line of a message, without a final stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")


def nearest(name: str, known: list[str]) -> str:
    """``" Did you mean 'x'?"``, or nothing when no name is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
