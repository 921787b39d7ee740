"""The process that decodes: what it may do to this one when it crashes, hangs or lies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from vtc.media import Limits, child, read_film, read_picture

from support import bombs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def picture(tmp_path):
    Image.new("RGB", (30, 20), "red").save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os; os.kill(os.getpid(), 11)", r"'a.png' .* crashed \(was ended by signal 11\).*Write it anew"),
        ("import os; os._exit(3)", r"crashed \(ended with status 3\)"),
        ("print('no json')", "crashed"),
        ('print(\'{"size": [9, 9], "indices": null, "numbers": [0]}\')', "crashed"),
    ],
)
def test_a_crash_becomes_one_error(picture, monkeypatch, code, message):
    monkeypatch.setattr(child, "_START", code)
    with pytest.raises(ValueError, match=message):
        read_picture(picture)


def test_time_and_what_is_left_of_the_process(picture, monkeypatch):
    monkeypatch.setattr(
        child,
        "_START",
        "import os, sys, time; print(os.getpid(), file=open(sys.argv[2] + '.pid', 'w', 1)); time.sleep(60)",
    )
    monkeypatch.setattr(child.json, "dumps", lambda task: task["path"])
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"'a.png' .* takes more than 2 s.*seconds="):
        read_picture(picture, limits=Limits(seconds=2))
    assert time.monotonic() - start < 20
    pid = int(Path(f"{picture}.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other platforms do not limit the address space")
def test_memory(tmp_path):
    (tmp_path / "a.png").write_bytes(bombs.png(9000, 9000))
    with pytest.raises(ValueError, match=r"more than 0.29\d* GiB of memory"):
        read_picture(tmp_path / "a.png", limits=Limits(memory=300 << 20))
    assert read_picture(tmp_path / "a.png", side=9).size == (9, 9)


@pytest.mark.skipif(not hasattr(signal, "SIGXCPU"), reason="no limit of processor time")
def test_processor_time_reads_as_time(picture, monkeypatch):
    monkeypatch.setattr(child, "_START", "import os; os.kill(os.getpid(), 24)")
    with pytest.raises(ValueError, match="takes more than 60 s"):
        read_picture(picture)


def test_an_interrupt_leaves_no_process(picture, monkeypatch):
    started = []
    monkeypatch.setattr(child, "_frames", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[0])
    with pytest.raises(KeyboardInterrupt):
        read_picture(picture)
    assert started[0].returncode is not None


def test_missing_pyav_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"anything")
    monkeypatch.setattr(child, "_START", "import sys; sys.modules['av'] = None; " + child._START)
    with pytest.raises(ImportError, match=r"pip install av"):
        read_film(tmp_path / "a.mp4")


def test_the_process_imports_little():
    code = "import sys, vtc.media.worker, vtc.video.sampling, PIL.Image, av; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "vtc.media.films" in done.stdout.split()
    assert not {"torch", "transformers", "gradio"} & {name.split(".")[0] for name in done.stdout.split()}


# reading of files, one place each; `av.open(path, "w")` writes
_OPENERS = {
    r"\b(Image|pillow)\.open\(": ["vtc/media/pictures.py"],
    r"\bav\.open\((?!.*[\"']w[\"'])": ["vtc/media/films.py"],
    r"\b(decord|imageio|cv2|ImageSequence|VideoReader|read_video_timestamps|load_image|torchvision\.io)\b": [],
}


@pytest.mark.parametrize("pattern", _OPENERS)
def test_files_are_opened_in_one_place(pattern):
    found = {
        str(path.relative_to(ROOT)): len(re.findall(pattern, path.read_text()))
        for folder in ("vtc", "adapters", "kernels", "eval", "demos")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    assert found and {path: count for path, count in found.items() if count} == dict.fromkeys(_OPENERS[pattern], 1)
