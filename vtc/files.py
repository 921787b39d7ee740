"""Files that users name: read whole, within bounds, and only where they are files; written only where they can be."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from .core.words import shown

LARGEST = 64 * 2**20
"""Bytes of a text that is read."""


def read_text(path: str | Path, what: str, most: int = LARGEST) -> str:
    """Read a UTF-8 text.

    Parameters
    ----------
    path : path
    what : str
        What the file is to be, for messages: ``"vtc configuration"``.
    most : int
        Bytes.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        A folder, a pipe or a device, which could keep a reader waiting or never end; a file that is too large or no
        UTF-8 text.
    """
    file = Path(path)
    # not blocking: opening a pipe would wait for somebody to write into it
    try:
        number = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise FileNotFoundError(f"No {what} at {shown_path(file)}.") from None
    except OSError as error:
        raise type(error)(f"No {what} can be read at {shown_path(file)}: {error.strerror}.") from None
    except ValueError as error:  # a null byte
        raise ValueError(f"{shown(str(path))} is no path of a {what}: {error}.") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(f"No {what} at {shown_path(file)}: {_kind(file)}, no regular file.")
    with os.fdopen(number, "rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{shown_path(file)} is larger than the {most / 2**20:g} MiB a {what} may have.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{shown_path(file)} is no {what}: not a text in UTF-8.") from None


def read_json(path: str | Path, what: str, most: int = LARGEST) -> Any:
    """Read a JSON file; see :func:`read_text`, and :func:`parse_json` for what is no JSON."""
    return parse_json(read_text(path, what, most), shown_path(Path(path)))


def parse_json(text: str, where: str) -> Any:
    """Values of a JSON text.

    Raises
    ------
    ValueError
        No JSON, a key that is there twice, brackets nested too deep, or a number with thousands of digits.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}.") from None
    except RecursionError:
        raise ValueError(f"{where} is not JSON that can be read: its brackets are nested too deep.") from None
    except ValueError as error:
        raise ValueError(f"{where} is not JSON that can be read: {error}.") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


def file_to_write(path: str | Path, what: str) -> Path:
    """Check that a file can be written at a path, and make its folder.

    Raises
    ------
    ValueError
        Something else than a file is there: a folder, a pipe, a device; or a folder of the path is a file.
    """
    file = Path(path)
    if _exists(file, what) and not file.is_file():
        raise ValueError(f"Cannot write the {what} to {shown_path(file)}: {_kind(file)}, no regular file.")
    folder_to_write(file.parent, what)
    return file


def folder_to_write(path: str | Path, what: str) -> Path:
    """Make a folder.

    Raises
    ------
    ValueError
        The path, or a part of it, is a file, or it can be no path.
    """
    folder = Path(path)
    _exists(folder, what)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"Cannot write the {what} into {shown_path(folder)}: that is no folder.") from None
    return folder


def shown_path(path: Path) -> str:
    """Path for a message, shortened from the left."""
    text = str(path)
    return text if len(text) <= 200 else f"... {text[-196:]}"


def is_folder(path: Path) -> bool:
    """Whether a folder is there; False also for what can be no path, which whoever opens it will say."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _exists(path: Path, what: str) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:  # too long a name, a null byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"Cannot write the {what} to {shown(str(path))}: {reason}.") from None


def _kind(path: Path) -> str:
    tests = {"a folder": path.is_dir, "a pipe": path.is_fifo, "a socket": path.is_socket}
    return next((f"that is {name}" for name, test in tests.items() if test()), "that is a device")
