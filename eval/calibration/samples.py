"""Unlabelled samples for a calibration: JSON lines of image and question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from vtc.core.words import shown
from vtc.files import parse_json, read_text


def read_samples(data: str | Path, limit: int | None = None) -> list[tuple[Path, str]]:
    """Read ``{"image": path, "question": text}`` lines.

    Parameters
    ----------
    data : path
        JSON-lines file, or a folder with exactly one of them beside or among its images. Image paths are relative to
        the file.
    limit : int, optional
        Take the first so many.

    Raises
    ------
    FileNotFoundError
        No such file, or an image is missing.
    ValueError
        A line is not of that form, or there is none.
    """
    file = _file(Path(data))
    found: list[tuple[Path, str]] = []
    for number, line in enumerate(read_text(file, "list of samples").splitlines(), 1):
        if not line.strip() or len(found) == limit:
            continue
        entry = parse_json(line, f"{file}, line {number},")
        name, question = (entry.get("image"), entry.get("question")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(question, str):
            raise ValueError(f'{file}, line {number}: expected {{"image": path, "question": text}}, got {shown(line)}.')
        image = file.parent / name
        if not image.is_file():
            raise FileNotFoundError(f"{file}, line {number}: no image at {image}.")
        found.append((image, question))
    if not found:
        raise ValueError(f"{file} holds no samples.")
    return found


def _file(path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else []
    if len(files) != 1:
        raise FileNotFoundError(
            f"No samples at {path}: pass a JSON-lines file, or a folder that holds one of them (found {len(files)})."
        )
    return files[0]


def prepare(processor: Any, samples: list[tuple[Path, str]], device: Any = "cpu") -> list[dict[str, Tensor]]:
    """Turn samples into inputs of one prompt each, by the processor's chat template."""
    from vtc.chat import build_inputs
    from vtc.media import read_picture

    return [build_inputs(processor, [([read_picture(path)], question)], device) for path, question in samples]
