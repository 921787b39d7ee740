"""Load through the Auto classes of transformers without ever running code that comes with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def from_pretrained(auto: Any, name: str | Path, trust_remote_code: bool = False, **given: Any) -> Any:
    """Call ``auto.from_pretrained`` so that nobody is asked whether code of the checkpoint may run: it may not.

    Parameters
    ----------
    auto : type
        ``AutoConfig``, ``AutoProcessor``, ``AutoModelForImageTextToText``, ...
    name : str or Path
        Folder or Hub id.
    trust_remote_code : bool
        Left out, transformers would ask on the terminal, and "y" would run the checkpoint's Python.
    **given
        As ``from_pretrained`` takes them.

    Raises
    ------
    ValueError
        The checkpoint cannot be loaded without code of its own.
    OSError, ImportError
        From transformers.
    """
    try:
        return auto.from_pretrained(name, trust_remote_code=trust_remote_code, **given)
    except ValueError as error:
        if trust_remote_code or "trust_remote_code" not in str(error):
            raise
        raise ValueError(
            f"{str(name)!r} brings Python code of its own, which vtc does not run. If you trust it, load the model "
            "yourself with trust_remote_code=True and hand it to vtc.patch"
        ) from error
