"""What every request passes before gradio sees it: the page's limits, for clients that talk to the API themselves."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .files import trim
from .hosts import Hosts
from .limits import MAX_FILE, MAX_REQUEST, MAX_UPLOADS, MIB

API = "/gradio_api/"
UNUSED = (
    "proxy=",
    "process_recording",
    "deep_link",
    "component_server",
    "vibe-",
    "undo-vibe-",
    "stream/",
    "run-history",
)
"""Routes of gradio that this page does not use, and that fetch, write or run something."""
_FORM = MIB
"""Bytes of an upload's request beside the file itself."""


class Guard:
    """ASGI middleware: foreign names, foreign addresses, and requests beyond the limits get a 4xx that says why.

    Parameters
    ----------
    app : ASGI application
    hosts : Hosts
        Names that are ours.
    folder : Path
        Where uploads are kept.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, folder: Path) -> None:
        self.app, self.hosts, self.folder = app, hosts, folder
        self.uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on to gradio."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send)
        elif scope["method"] not in ("POST", "PUT", "PATCH", "DELETE"):
            await self.app(scope, receive, send)
        elif _route(scope).rstrip("/") == "upload":
            await self._upload(scope, receive, send)
        else:
            await self._request(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Answer to what is refused whatever its body is."""
        named = Headers(scope=scope).getlist("host")
        if len(named) != 1 or not self.hosts.allows(named[0]):
            text = "This demo does not answer to the name in the request's Host header"
            return _plain(400, f"{text}: open it by the address it prints.")
        if scope["type"] != "http":
            return _plain(400, "Only HTTP is spoken here.")
        route = _route(scope)
        if route.startswith(UNUSED) or (route.startswith("file=") and is_url(route.removeprefix("file="))):
            return _plain(403, "This demo fetches nothing on behalf of others, and takes uploads only.")
        return None

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.uploads >= MAX_UPLOADS:
            await _plain(503, "Too many uploads at this moment: try again in a few seconds.")(scope, receive, send)
            return
        limit = _Limit(receive, MAX_FILE + _FORM)
        if _length(scope) > limit.most:
            await _too_large(MAX_FILE)(scope, receive, send)
            return
        self.uploads += 1
        try:
            await self.app(scope, limit.receive, limit.answer(scope, receive, send))
        except _TooLarge:
            await limit.refuse(scope, receive, send)
        finally:
            self.uploads -= 1
            trim(self.folder)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = _Limit(receive, MAX_REQUEST)
        try:
            if _length(scope) > limit.most:
                raise _TooLarge
            body = await limit.body()
        except _TooLarge:
            await _too_large(MAX_REQUEST)(scope, receive, send)
            return
        reason = _fault(body)
        if reason is not None:
            await _plain(400, reason)(scope, receive, send)
            return
        await self.app(scope, _again(body, receive), send)


class _TooLarge(Exception):
    """The body is longer than allowed."""


class _Limit:
    """Body of a request that is read up to a number of bytes, whatever its header promises."""

    def __init__(self, receive: Receive, most: int) -> None:
        self.source, self.most, self.read = receive, most, 0
        self.started = False

    async def receive(self) -> Message:
        message = await self.source()
        self.read += len(message.get("body", b""))
        if self.read > self.most:
            raise _TooLarge
        return message

    async def body(self) -> bytes:
        parts, more = [], True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                break
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(parts)

    def answer(self, scope: Scope, receive: Receive, send: Send) -> Send:
        """``send`` that turns the 500 which gradio makes of a body cut short into the 413 it is."""

        async def once(message: Message) -> None:
            if self.read > self.most:
                await self.refuse(scope, receive, send)
                return
            self.started = True
            await send(message)

        return once

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.started:
            self.started = True
            await _too_large(MAX_FILE)(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """``receive`` that hands out a body that was read already, and then what comes after it."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


def _fault(body: bytes) -> str | None:
    """Why the JSON of a request is refused; None where it is not, or no JSON, which gradio refuses itself."""
    try:
        json.loads(body)
    except RecursionError:
        return "The request is nested too deep."
    except ValueError:
        return None
    return None


def is_url(text: str) -> bool:
    """Whether gradio could take a path for an address to fetch from."""
    text = unquote(text).strip().lower().replace("\\", "/")
    return "://" in text or text.startswith(("//", "http:", "https:", "data:", "ftp:"))


def _route(scope: Scope) -> str:
    """Route within gradio's API, empty for others."""
    path = unquote(scope["path"])
    return path.removeprefix(API) if path.startswith(API) else ""


def _length(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isdecimal() else 0


def _too_large(most: int) -> PlainTextResponse:
    size = f"{most // MIB} MB" if most >= MIB else f"{most // 1024} KB"
    return _plain(413, f"The request is larger than the {size} that are taken.")


def _plain(status: int, text: str) -> PlainTextResponse:
    return PlainTextResponse(text, status, headers={"connection": "close"})
