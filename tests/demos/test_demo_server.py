"""The demo's server for clients that talk to its API and skip the page: every limit holds, nothing is fetched."""

from __future__ import annotations

import io
import os
import socket
import time
import uuid
from pathlib import Path

import pytest

gr = pytest.importorskip("gradio", reason="gradio is not installed: pip install gradio")

import httpx  # noqa: E402
from PIL import Image  # noqa: E402

from vtc.demos.app import files, limits, serve  # noqa: E402
from vtc.demos.app.guard import is_url  # noqa: E402
from vtc.demos.app.hosts import Hosts, host_of  # noqa: E402

URL = "https://93.184.216.34/picture.png"


class Server:
    """A running demo, and a client of its queue."""

    def __init__(self, base: str) -> None:
        self.base, self.client = base, httpx.Client(base_url=base, timeout=60)
        self.session = uuid.uuid4().hex
        config = self.client.get("/config").json()
        self.functions = {d["api_name"]: d["id"] for d in config["dependencies"] if d.get("api_name")}

    def call(self, name: str, *data: object) -> str:
        """Last event of a call, as text."""
        body = {"data": list(data), "fn_index": self.functions[name], "session_hash": self.session}
        joined = self.client.post("/gradio_api/queue/join", json=body)
        assert joined.status_code == 200, joined.text
        with self.client.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as stream:
            return next(line for line in stream.iter_lines() if "process_completed" in line)

    def ask(self, **changed: object) -> str:
        given = {"model": "tiny-llava", "method": "pool", "keep": 0.25, "chosen": None, "media": None, "question": "?"}
        return self.call("ask", *{**given, **changed}.values())

    def upload(self, data: bytes, name: str = "a.png") -> httpx.Response:
        return self.client.post("/gradio_api/upload", files={"files": (name, data, "image/png")})


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # serve sets its own; this restores what was there
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        app = serve(port=port, block=False)
        running = Server(f"http://127.0.0.1:{port}")
        yield running
        running.client.close()
        app.close()


@pytest.fixture
def fetched(monkeypatch):
    """Addresses that gradio was about to fetch."""
    found: list[str] = []

    async def note(url: str, *_: object, **__: object) -> None:
        found.append(url)
        raise OSError("no network in tests")

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_get", note)
    return found


def picture(side: int = 30) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 90).save(buffer, "PNG")
    return buffer.getvalue()


def as_file(path: str) -> dict[str, object]:
    return {"path": path, "url": None, "orig_name": "p.png", "is_stream": False, "meta": {"_type": "gradio.FileData"}}


def test_a_question_is_answered(server):
    said = server.ask(question="What is here ?")
    assert '"success":true' in said


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"question": "1 " * limits.MAX_QUESTION}, f"at most {limits.MAX_QUESTION}"),
        ({"question": None}, "no question"),
        ({"keep": 0.001}, "minimum"),
        ({"keep": 7}, "maximum"),
        ({"keep": True}, "keep=True"),
        ({"method": "/etc/passwd"}, "not in the list of choices"),
        ({"method": ["pool"]}, ""),
        ({"method": None}, "method=None"),
        ({"model": "org/other"}, "not in the list of choices"),
    ],
)
def test_values_the_page_would_not_send_are_refused(server, changed, message):
    said = server.ask(**changed)
    assert '"success":false' in said and message in said, said


def test_state_is_the_servers_own(server):
    """What a client sends for a State counts for nothing."""
    assert '"success":true' in server.ask(chosen={"pool": {"positions": "x"}}, media="/etc/passwd")


@pytest.mark.parametrize("url", [URL, "HTTP://93.184.216.34/p.png", "ftp://93.184.216.34/p.png"])
def test_nothing_is_fetched_for_a_file_at_an_address(server, fetched, url):
    said = server.call("_take_upload", as_file(url))
    assert '"success":false' in said and "fetches nothing" in said
    assert '"success":false' in server.ask(question=as_file(url))
    assert '"success":false' in server.ask(model=[as_file(url)])
    assert fetched == []


@pytest.mark.parametrize("route", [f"file={URL}", f"proxy={URL}", "deep_link?session_hash=x", "file=https%3A//a.b/c"])
def test_routes_that_fetch_or_write_are_closed(server, fetched, route):
    response = server.client.get(f"/gradio_api/{route}")
    assert response.status_code == 403 and "fetches nothing" in response.text and fetched == []


@pytest.mark.parametrize("route", ["process_recording", "component_server"])
def test_routes_that_run_something_are_closed(server, route):
    assert server.client.post(f"/gradio_api/{route}", json={}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/gradio_api/upload"])
def test_foreign_names_get_nothing(server, path):
    for name in ("evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example", "192.0.2.7"):
        assert server.client.get(path, headers={"host": name}).status_code == 400, name
    with socket.create_connection(("127.0.0.1", int(server.base.rsplit(":", 1)[1])), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".encode())
        assert b" 400 " in raw.recv(100)


def test_our_own_names_are_answered(server):
    port = server.base.rsplit(":", 1)[1]
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", "LOCALHOST", f"[::1]:{port}", "localhost."):
        assert server.client.get("/config", headers={"host": name}).status_code == 200, name


def test_names_by_what_the_server_listens_on():
    assert Hosts("demo.lan").allows("demo.lan:80") and not Hosts("demo.lan").allows("other.lan")
    assert not Hosts("127.0.0.1").allows("192.0.2.7")
    everywhere = Hosts("0.0.0.0")
    assert everywhere.allows("192.0.2.7:7860") and everywhere.allows("[2001:db8::1]:7860")
    assert everywhere.allows(socket.gethostname()) and not everywhere.allows("evil.example")
    links = [None]
    shared = Hosts("127.0.0.1", lambda: links[-1])
    assert not shared.allows("abc.gradio.live")
    links.append("https://abc.gradio.live")
    assert shared.allows("abc.gradio.live") and not shared.allows("xyz.gradio.live")
    assert [host_of(text) for text in ("a:b", "a/b", "u@a", "", "A.:9")] == [None, None, None, None, "a"]


def test_an_upload_is_taken_and_not_kept(server):
    path = server.upload(picture()).json()[0]
    assert os.path.exists(path)
    assert '"success":true' in server.call("_take_upload", as_file(path))
    assert not os.path.exists(path)
    said = server.call("_take_upload", as_file(path))
    assert '"success":false' in said and "upload it again" in said


def test_our_own_pictures_are_no_uploads(server):
    drawn = next(Path(os.environ["GRADIO_TEMP_DIR"], "drawn").iterdir())
    assert '"success":false' in server.call("_take_upload", as_file(str(drawn)))
    assert drawn.exists()


def test_uploads_and_requests_are_bounded(server):
    assert server.upload(b"x" * (limits.MAX_FILE + 2 * limits.MIB)).status_code == 413

    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(limits.MAX_FILE // limits.MIB + 3):
            yield b"x" * limits.MIB
        yield b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert server.client.post("/gradio_api/upload", content=pieces(), headers=kind).status_code == 413
    body = {"data": ["x" * limits.MAX_REQUEST], "fn_index": 0, "session_hash": "s"}
    assert server.client.post("/gradio_api/queue/join", json=body).status_code == 413
    deep = b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    kind = {"content-type": "application/json"}
    answer = server.client.post("/gradio_api/queue/join", content=deep, headers=kind)
    assert answer.status_code == 400 and "nested too deep" in answer.text


def test_uploads_that_nobody_takes_do_not_pile_up(server, monkeypatch):
    monkeypatch.setattr(files.trim, "__defaults__", (100_000, 2000))
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    first = Path(server.upload(picture(200)).json()[0])
    for number in range(5):
        server.upload(picture(200 + number))
    # folders vanish while they are walked: the server removes what it no longer needs
    here = [Path(root) / name for root, _, names in os.walk(folder) for name in names]
    mine = [p.stat().st_size for p in here if p not in files._SPARED and p.exists()]
    assert sum(mine) <= 100_000 and not first.exists() and not first.parent.exists()
    assert all(p.exists() for p in files._SPARED if folder.resolve() in p.parents)


def test_the_oldest_files_go_first(tmp_path):
    for number in range(6):
        (tmp_path / f"d{number}").mkdir()
        file = tmp_path / f"d{number}" / "f"
        file.write_bytes(b"x" * 10)
        os.utime(file, (time.time() - 100 + number,) * 2)
    files.trim(tmp_path, most=1000, count=4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d2", "d3", "d4", "d5"]
    files.trim(tmp_path, most=25)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d4", "d5"]


def test_what_counts_as_an_address():
    assert all(map(is_url, ["http:/a", "HTTPS://a", "//a/b", "data:x", " ftp://x", "file:///etc/passwd", "http%3A//a"]))
    assert not any(map(is_url, ["/tmp/a.png", "a:b.png", "drawn/x.png"]))
