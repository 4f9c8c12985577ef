"""A small HTTP server of the standard library, for this machine: who may reach it, and what every answer says.

It listens on the loopback interface and answers only requests to its own name, so that no page on the web can reach it
by another one. Elsewhere, or where one was chosen, every request must bring a token.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from fedmosaic.errors import SettingsError

_TOKEN = re.compile(r"[\w.~-]{16,200}", re.ASCII)  # as it may stand in an address and in a header
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LocalServer(ThreadingHTTPServer):
    """Listens; a subclass of :class:`LocalHandler` answers.

    Args:
        handler: answers requests.
        host: where to listen. Elsewhere than on the loopback interface, every request must bring the token.
        port: 0: a free one.
        token: what requests must bring, also on the loopback interface; empty: made anew where it is needed.

    Attributes:
        token: what requests must bring; empty: nothing.

    Raises:
        SettingsError: the port is taken, there is no such address, or the token could be guessed or not be sent.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, handler: type[LocalHandler], *, host: str = "127.0.0.1", port: int = 0, token: str = "") -> None:
        if token and not _TOKEN.fullmatch(token):
            raise SettingsError(
                "--token: expected 16 to 200 letters, digits and signs of . _ ~ - (none: a new one is made)"
            )
        self.token = token or ("" if is_loopback(host) else secrets.token_urlsafe(24))
        self._host = host
        try:
            super().__init__((host, port), handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(f"--port {port} is in use; take another one, or --port 0 for any") from None
            raise SettingsError(f"--host {host} --port {port} cannot be listened on: {error.strerror}") from None

    @property
    def address(self) -> str:
        """Where it is."""
        return f"http://{self._host}:{self.server_address[1]}/"

    @property
    def url(self) -> str:
        """Where the page is, with the token."""
        return self.address + (f"?token={self.token}" if self.token else "")

    def admits(self, host: str) -> bool:
        """Return whether a request meant this server: a page elsewhere cannot reach it by a name of its own.

        Args:
            host: the request's header.
        """
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "80")
        if self.token:
            return True  # under whatever name it is known, it takes the token
        return port == str(self.server_address[1]) and name in {"127.0.0.1", "localhost", self._host}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent of readers that have gone away.

        Args:
            request: of theirs.
            client_address: theirs.
        """


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only.

    Args:
        host: an IPv4 address, or ``localhost``.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LocalHandler(BaseHTTPRequestHandler):
    """What all handlers have: the check of who asks, and headers that keep answers to those who asked."""

    server: LocalServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fedmosaic", ""
    timeout: ClassVar[float] = 30.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing.

        Args:
            format: of the line.
            *args: for it.
        """

    def meant_for_us(self) -> bool:
        """Whether the request was made to this server, by its name, and not by a page of another one."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        return self.server.admits(host) and origin in (None, *(f"{scheme}://{host}" for scheme in ("http", "https")))

    def has_token(self) -> bool:
        """Whether the request brings the token, in its address or as a bearer; True where none is needed."""
        asked = parse_qs(urlsplit(self.path).query).get("token", [])
        borne = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        wanted = self.server.token.encode()
        return not wanted or any(hmac.compare_digest(given.encode(), wanted) for given in (*asked[:1], borne))

    def send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Answer.

        Args:
            body: left out of the answer to HEAD.
            kind: its media type.
            status: of the answer.
        """
        self.head(status, kind, {"Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: HTTPStatus, why: str) -> None:
        """Answer with a line of text.

        Args:
            status: of the answer.
            why: the line.
        """
        self.send(f"{why}\n".encode(), "text/plain; charset=utf-8", status)

    def head(self, status: HTTPStatus, kind: str, more: Mapping[str, str] = MappingProxyType({})) -> None:
        """Begin an answer.

        Args:
            status: of the answer.
            kind: media type of what follows.
            more: further headers.
        """
        self.send_response(status)
        last = {"Connection": "close"} if self.close_connection else {}
        for name, value in {"Content-Type": kind, **_HEADERS, **last, **more}.items():
            self.send_header(name, value)
        self.end_headers()
