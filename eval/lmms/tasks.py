"""Our own tasks as a folder for ``--include_path``: written once per seed into a cache, never downloaded."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL

import vtc.eval.scenes
from vtc.eval.quality.answers import LONGEST

from .docs import METRIC
from .rows import Row, by_task, rows

NUMBER = 100
FPS = 2
_HERE = Path(__file__).parent

_TASK = """\
task: {task}
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function vtc.eval.lmms.docs.doc_to_visual
doc_to_text: !function vtc.eval.lmms.docs.doc_to_text
doc_to_target: answer
process_results: !function vtc.eval.lmms.docs.process_results
generation_kwargs:
  max_new_tokens: {longest}
  temperature: 0
  do_sample: false
metric_list:
  - metric: {metric}
    aggregation: mean
    higher_is_better: true
metadata:
  - version: 1.0
  - seed: {seed}
"""
_GROUP = """\
group: {group}
task:
{tasks}
"""


def folder(number: int = NUMBER, seed: int = 0, root: Path | None = None) -> Path:
    """Folder with one task per family of questions, in groups; written when missing.

    Groups: ``vtc`` (pictures) and ``vtc_video``.

    Parameters
    ----------
    number : int
        Questions per family.
    seed : int
        Which set of questions.
    root : pathlib.Path, optional
        Where to keep the folder; by default the user's cache, or ``VTC_CACHE``.

    Returns
    -------
    pathlib.Path
        Absolute. Its name tells number, seed and the version of the generator: another generator, another folder.

    Raises
    ------
    ImportError
        ``datasets`` (or ``av``, for videos) is missing.
    ValueError
        ``number`` or ``seed`` out of range.
    """
    if number < 1 or seed < 0:
        raise ValueError(f"number={number}, seed={seed}: ask for at least 1 question per family, and seed >= 0.")
    place = (root or cache()).resolve() / f"n{number}-seed{seed}-{_generator()}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=place.parent, prefix=".draft-"))
    try:
        _write(draft, place, number, seed)
        try:
            draft.rename(place)
        except OSError:  # another process was faster, and wrote the same
            if not place.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def cache() -> Path:
    """Folder for what can be generated again: ``VTC_CACHE``, or ``vtc`` in the user's cache."""
    given = os.environ.get("VTC_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(given) if given else Path(home) / "vtc") / "tasks"


def _generator() -> str:
    """Fingerprint of everything the questions depend on."""
    scenes = Path(vtc.eval.scenes.__file__).parent
    sources = sorted([*scenes.glob("**/*"), *scenes.parent.glob("test_sets.py"), *scenes.parent.glob("answering.py")])
    digest = hashlib.sha256(PIL.__version__.encode())
    for file in [*(s for s in sources if s.is_file() and s.suffix != ".pyc"), _HERE / "rows.py", _HERE / "tasks.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _write(draft: Path, place: Path, number: int, seed: int) -> None:
    groups: dict[str, list[str]] = {}
    for task, found in by_task(list(rows(number, seed))).items():
        groups.setdefault(found[0].group, []).append(task)
        _write_parquet(draft, place, task, found)
        data = place / f"{task}.parquet"
        (draft / f"{task}.yaml").write_text(
            _TASK.format(task=task, data=data, metric=METRIC, seed=seed, longest=LONGEST)
        )
    for group, tasks in groups.items():
        listed = "\n".join(f"  - {task}" for task in tasks)
        (draft / f"_{group}.yaml").write_text(_GROUP.format(group=group, tasks=listed))


def _write_parquet(draft: Path, place: Path, task: str, found: Sequence[Row]) -> None:
    try:
        from datasets import Dataset, Features, Image, Value
    except ImportError as error:
        raise ImportError(
            "The tasks are parquet files: install `datasets`, or all of `pip install vtc[eval]`."
        ) from error

    columns: dict[str, Any] = {name: [getattr(r, name) for r in found] for name in ("family", "question", "answer")}
    features = {name: Value("string") for name in columns}
    if found[0].is_video:
        files = [f"{task}_{i}.mp4" for i in range(len(found))]
        for name, row in zip(files, found, strict=True):
            write_video(draft / name, row.frames)
        columns["video"], features["video"] = [str(place / name) for name in files], Value("string")
    else:
        columns["image"] = [{"bytes": _png(row.frames[0]), "path": None} for row in found]
        features["image"] = Image()
    Dataset.from_dict(columns, features=Features(features)).to_parquet(draft / f"{task}.parquet")


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_video(path: Path, frames: Sequence[Any]) -> None:
    """Write pictures of one size as H.264 at :data:`FPS` frames per second, without loss.

    Raises
    ------
    ImportError
        ``av`` is missing.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("Videos are written with `av`: pip install av, or all of `pip install vtc[eval]`.") from error

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264rgb", rate=FPS, options={"crf": "0"})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "rgb24"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())
