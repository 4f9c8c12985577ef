"""The run page, served while the run goes on: read-only, from the run's folder, with nothing but the standard library.

A page asks for ``events`` and is told, by server-sent events, that something has changed; it then fetches itself anew.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import secrets
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from fedmosaic.errors import FedMosaicError, SettingsError
from fedmosaic.events import Trained
from fedmosaic.federation.callbacks import RoundStart
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.report import verdict
from fedmosaic.report.page import render
from fedmosaic.report.record import RunRecord, read_run

_MOST_STREAMS = 16
_WATCHED = ("settings.toml", "events.jsonl", "rounds.csv", "results.json", "answers.json", "relevance")
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address may hold the token
    "Cross-Origin-Resource-Policy": "same-origin",
}


class LiveRun:
    """A run's page, rendered anew when its files have changed.

    Args:
        path: the run's folder.

    Raises:
        SettingsError: it is none.
        RunError: a file in it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._folder = RunFolder(path)
        self._lock = threading.Lock()
        self._version = self.version()
        self._page, self._now = self._read()

    def version(self) -> tuple[tuple[str, int, int], ...]:
        """Return what differs as soon as anything that the page shows may do so."""
        found = []
        for folder in (self._folder.path, self._folder.path / "reference"):
            for name in _WATCHED:
                try:
                    told = (folder / name).stat()
                except OSError:
                    continue
                found.append((f"{folder.name}/{name}", told.st_mtime_ns, told.st_size))
        return tuple(found)

    def page(self) -> tuple[str, str]:
        """Return the page, and in a line how far the run is; as they were while a file cannot be read."""
        with self._lock:
            if (version := self.version()) != self._version:
                try:
                    self._page, self._now = self._read()
                    self._version = version
                except (FedMosaicError, OSError) as error:
                    self._now = f"cannot be read right now: {error}"
            return self._page, self._now

    def _read(self) -> tuple[str, str]:
        record = read_run(self._folder.path)
        settings_text = (self._folder.path / "settings.toml").read_text(encoding="utf-8")
        return render(record, settings_text, live=True), now(record)


def now(record: RunRecord) -> str:
    """Return in a line how far a run is, and who has trained last.

    Args:
        record: the run.
    """
    last = next((line.what for line in reversed(record.events) if isinstance(line.what, Trained | RoundStart)), None)
    if record.results is not None or last is None:
        return verdict.status(record)
    what = f"client {last.client} has trained" if isinstance(last, Trained) else "begun"
    return f"{verdict.status(record)}; round {last.round}: {what}"


class LiveServer(ThreadingHTTPServer):
    """Serves one run.

    Args:
        run: to show.
        host: where to listen. Elsewhere than on the loopback interface, every request must bring the token.
        port: 0: a free one.
        poll: seconds between two looks at the run's files, while somebody watches.

    Attributes:
        run: see above.
        poll: see above.
        token: what requests must bring; empty: nothing.

    Raises:
        SettingsError: the port is taken, or there is no such address.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, run: LiveRun, *, host: str = "127.0.0.1", port: int = 0, poll: float = 2.0) -> None:
        self.run = run
        self.poll = poll
        self.token = "" if is_loopback(host) else secrets.token_urlsafe(24)
        self.streams = threading.BoundedSemaphore(_MOST_STREAMS)
        self.closing = threading.Event()
        self._host = host
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise SettingsError(f"--port {port} is in use; take another one, or --port 0 for any") from None
            raise SettingsError(f"--host {host} --port {port} cannot be listened on: {error.strerror}") from None

    @property
    def url(self) -> str:
        """Where the page is, with the token."""
        return f"http://{self._host}:{self.server_address[1]}/" + (f"?token={self.token}" if self.token else "")

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

    def server_close(self) -> None:
        """Stop listening and end all streams."""
        self.closing.set()
        super().server_close()


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only.

    Args:
        host: an IPv4 address, or ``localhost``.
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD of ``/`` and GET of ``/events``; everything else is refused."""

    server: LiveServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fedmosaic", ""
    timeout: ClassVar[float] = 30.0

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not self.server.admits(self.headers.get("Host", "")):
            return self._refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
        token = parse_qs(address.query).get("token", [""])[0]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()) and self.server.token:
            return self._refuse(HTTPStatus.FORBIDDEN, "the address lacks the token that fedmosaic watch has printed")
        if address.path == "/":
            return self._send(self.server.run.page()[0].encode(), "text/html; charset=utf-8")
        if address.path == "/events" and self.command == "GET":
            return self._stream()
        return self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing."""

    def _stream(self) -> None:
        if not self.server.streams.acquire(blocking=False):
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_STREAMS} pages watch already")
        try:
            self.close_connection = True
            self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8", {"Connection": "close"})
            for text in self._told():
                self.wfile.write(text.encode())
                self.wfile.flush()
        except OSError:  # the reader has gone away
            pass
        finally:
            self.server.streams.release()
        return None

    def _told(self) -> Iterator[str]:
        """An event for every change, and one now and then that says that there is none."""
        page, line = self.server.run.page()
        yield f"event: now\ndata: {_line(line)}\n\n"
        while not self.server.closing.wait(self.server.poll):
            fresh, line = self.server.run.page()
            event, page = "now" if fresh == page else "changed", fresh
            yield f"event: {event}\ndata: {_line(line)} ({time.strftime('%H:%M:%S')})\n\n"

    def _send(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, kind, {"Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(f"{why}\n".encode(), "text/plain; charset=utf-8", status)

    def _head(self, status: HTTPStatus, kind: str, more: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **_HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()


def _line(text: str) -> str:
    return " ".join(text.split())
