"""The run page, served while the run goes on: read-only, from the run's folder, with nothing but the standard library.

A page asks for ``events`` and is told, by server-sent events, that something has changed; it then fetches itself anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from fedmosaic.errors import FedMosaicError
from fedmosaic.events import Trained
from fedmosaic.federation.callbacks import RoundStart
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.local_server import LocalHandler, LocalServer
from fedmosaic.report import verdict
from fedmosaic.report.page import render
from fedmosaic.report.record import RunRecord, read_run

_MOST_STREAMS = 16
_WATCHED = ("settings.toml", "events.jsonl", "rounds.csv", "results.json", "answers.json", "relevance")


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


class LiveServer(LocalServer):
    """Serves one run.

    Args:
        run: to show.
        host: where to listen. Elsewhere than on the loopback interface, every request must bring the token.
        port: 0: a free one.
        poll: seconds between two looks at the run's files, while somebody watches.

    Attributes:
        run: see above.
        poll: see above.

    Raises:
        SettingsError: the port is taken, or there is no such address.
    """

    def __init__(self, run: LiveRun, *, host: str = "127.0.0.1", port: int = 0, poll: float = 2.0) -> None:
        self.run = run
        self.poll = poll
        self.streams = threading.BoundedSemaphore(_MOST_STREAMS)
        self.closing = threading.Event()
        super().__init__(_Handler, host=host, port=port)

    def server_close(self) -> None:
        """Stop listening and end all streams."""
        self.closing.set()
        super().server_close()


class _Handler(LocalHandler):
    """Answers GET and HEAD of ``/`` and GET of ``/events``; everything else is refused."""

    server: LiveServer

    def do_GET(self) -> None:  # noqa: N802 - the standard library's name
        path = urlsplit(self.path).path
        if not self.meant_for_us():
            return self.refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
        if not self.has_token():
            return self.refuse(HTTPStatus.FORBIDDEN, "the address lacks the token that fedmosaic watch has printed")
        if path == "/":
            return self.send(self.server.run.page()[0].encode(), "text/html; charset=utf-8")
        if path == "/events" and self.command == "GET":
            return self._stream()
        return self.refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def _stream(self) -> None:
        if not self.server.streams.acquire(blocking=False):
            return self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_STREAMS} pages watch already")
        try:
            self.close_connection = True
            self.head(HTTPStatus.OK, "text/event-stream; charset=utf-8")
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


def _line(text: str) -> str:
    return " ".join(text.split())
