"""Which names the demo answers to: a page of another name that a browser was led here by gets nothing."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY = frozenset({"", "0.0.0.0", "::"})


class Hosts:
    """Names and addresses in the ``Host`` header that are ours.

    A name that somebody else owns can be made to point at this machine after his page was loaded (DNS rebinding); the
    browser then lets that page read ours. Its requests still carry his name.

    Parameters
    ----------
    host : str
        What the server listens on. On all interfaces every address is ours, which nobody can rebind, and the names of
        this machine.
    shared : callable
        Gives the public link, or None while there is none.
    """

    def __init__(self, host: str, shared: Callable[[], str | None] = lambda: None) -> None:
        self.anywhere = host.strip("[]") in _ANY
        own = {socket.gethostname(), socket.getfqdn()} if self.anywhere else {host}
        self.names = LOCAL | {_plain(name) for name in own if name}
        self.shared = shared

    def allows(self, header: str) -> bool:
        """Whether a ``Host`` header, with or without a port, names this server."""
        name = host_of(header)
        if name is None:
            return False
        if name in self.names or (self.anywhere and _is_address(name)):
            return True
        link = self.shared()
        return link is not None and name == _plain(urlsplit(link).hostname or "")


def host_of(header: str) -> str | None:
    """Name in a ``Host`` header, in lower case; None for what is none."""
    try:
        parts = urlsplit(f"//{header.strip()}")
        parts.port  # noqa: B018  # raises where the port is no number
    except ValueError:
        return None
    if parts.hostname is None or "@" in header or parts.path or parts.query or parts.fragment:
        return None
    return _plain(parts.hostname)


def _plain(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
