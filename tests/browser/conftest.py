"""A running demo and a Chromium to look at it; without one of them the tests are skipped with the reason."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import random_qwen

CHROMIUM = os.environ.get("VTC_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
ARGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SHOTS = Path(os.environ.get("VTC_SHOTS", "out/shots"))


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.xdist_group("browser"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(tmp_path_factory, *arguments):
    """Address of the demo, run as a user runs it, in a process of its own."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install gradio")
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log.txt"
    temp = tmp_path_factory.mktemp("temp")
    environment = {**os.environ, "TMPDIR": str(temp), "OMP_NUM_THREADS": "1"}
    code = f"from vtc.cli.app import app; app({['demo', '--port', str(port), *arguments]!r})"
    with open(log, "w") as out:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=out, stderr=out, env=environment)
    try:
        deadline = time.time() + 180
        while "Running on" not in log.read_text():
            assert process.poll() is None and time.time() < deadline, log.read_text()
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
    assert "unexpected error" not in log.read_text(), log.read_text()
    assert not list(temp.glob("vtc-demo-*")), "the demo left temporary files behind"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    with serving(tmp_path_factory) as address:
        yield address


@pytest.fixture
def wordy_server(tmp_path_factory):
    """The demo with a model of random weights, which gives long answers; it is the one chosen at first."""
    folder = tmp_path_factory.mktemp("models") / "wordy"
    for part in random_qwen.build():
        part.save_pretrained(folder)
    with serving(tmp_path_factory, "--model", str(folder)) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set VTC_CHROMIUM")
    with api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(server, browser):
    """``open_page(width, height, dark, address)``: a fresh session of its own on the loaded page."""
    contexts = []

    def make(width=1360, height=900, dark=False, address=server):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        page.wait_for_selector("#ask")
        if address == server:  # tokens of other models are not counted before somebody asks
            page.wait_for_function("document.querySelector('#counted').innerText.includes('of')")
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def shots():
    """Folder for screenshots; ``VTC_SHOTS`` chooses another."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return SHOTS
