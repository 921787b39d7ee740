"""Values users type: strengths, options, image files, names of models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtc.core.words import nearest, shown

if TYPE_CHECKING:
    from PIL.Image import Image

AUTO = "auto"
MOST = 2**31 - 1
"""Largest number of anything: what torch, numpy and the standard library all take."""
__all__ = [
    "AUTO",
    "MOST",
    "check_method",
    "device",
    "numbers",
    "nearest",
    "one_reason",
    "parse_keep",
    "parse_options",
    "read_image",
]


def parse_keep(text: str) -> int | float:
    """``"16"`` is a number of tokens, ``"0.25"`` a share; the range is checked as in :func:`vtc.patch`.

    Raises
    ------
    ValueError
        Not a number, or outside the allowed range.
    """
    from vtc.core.budget import check_keep

    try:
        keep = int(text) if re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) else float(text)
    except ValueError:
        raise ValueError(
            f"keep={shown(text)} is no number; pass a share such as 0.25 or tokens per image such as 16."
        ) from None
    return check_keep(keep)


def parse_options(pairs: list[str], method: str | None = None) -> dict[str, Any]:
    """Read hyperparameters from ``name=value`` pairs.

    Parameters
    ----------
    pairs : list of str
    method : str, optional
        Whose hyperparameters they are: each value is read as its declared type says, see :func:`vtc.core.texts.read`.
        Without it (or for ``"auto"``) values are literals, or else text.

    Raises
    ------
    ValueError, TypeError
        A pair without ``=`` or without a name, a name twice, ``keep``, an unknown method or name, a value that is none
        of the hyperparameter's type.
    """
    from vtc.core.texts import literal

    texts: dict[str, str] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not sign or not name:
            raise ValueError(f"--option {shown(pair)} is not of the form name=value, such as --option seed=1.")
        if name in texts:
            raise ValueError(f"--option {name} is there twice: {shown(texts[name])} and {shown(text)}; pass it once.")
        if name == "keep":
            raise ValueError("--option keep=... is not taken: pass the strength as --keep.")
        texts[name] = text.strip()
    if method is None or method == AUTO:
        return {name: literal(text) for name, text in texts.items()}
    from vtc.methods import read_options

    return read_options(method, texts)


def check_method(name: str, keep: int | float | None, options: dict[str, Any]) -> None:
    """Raise what :func:`vtc.patch` would raise for a bad name or value, before a model is loaded."""
    from vtc.methods import make_method

    if name != AUTO:
        make_method(name, **({} if keep is None else {"keep": keep}), **options)
        return
    from vtc.patching import AUTO_CHOICES

    faults = []
    for choice in AUTO_CHOICES if options else ():
        try:
            make_method(choice, **options)
        except (TypeError, ValueError) as error:
            faults.append(error)
    if len(faults) == len(AUTO_CHOICES):  # whichever the model will call for would refuse them
        raise faults[0]


def device(name: str) -> Any:
    """Device by its name: ``"auto"`` takes a CUDA device when there is one.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        No device of torch, or none that this machine has.
    """
    import torch

    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        if found.type != "meta":
            torch.empty(1, device=found)
            return found
        reason = "it holds no numbers"
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = one_reason(error)
    here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    raise ValueError(f"--device {shown(name)} cannot be used; choose auto or one of {', '.join(here)} ({reason[:80]}).")


def numbers(text: str, what: str) -> list[int]:
    """Whole numbers with commas, each at least 1.

    Raises
    ------
    ValueError
        Something else; the message names the option.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,10}", part) and 1 <= int(part) <= MOST for part in parts):
        raise ValueError(f"--{what} {shown(text)} is no list of whole numbers from 1 to {MOST} such as 576,2304.")
    return [int(part) for part in parts]


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
