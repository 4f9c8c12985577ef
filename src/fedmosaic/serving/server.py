"""The endpoint: ``GET /v1/models``, ``POST /v1/chat/completions``, and the page to try it at ``/``."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from fedmosaic.errors import FedMosaicError
from fedmosaic.local_server import LocalHandler, LocalServer
from fedmosaic.serving.models import ServedModels
from fedmosaic.serving.refusals import Refusal
from fedmosaic.serving.replies import chunks, completion
from fedmosaic.serving.request import parse

LARGEST_BODY = 32 * 2**20
MOST_WAITING = 16
_GONE = (ConnectionError, TimeoutError)
"""Of a reader that has gone away, or sends nothing."""
_CHAT, _MODELS, _API = "/v1/chat/completions", "/v1/models", "/v1/"


class AnswerServer(LocalServer):
    """Serves the models of one client.

    Args:
        models: that answer.
        page: HTML of the page to try them.
        host: where to listen. Elsewhere than on the loopback interface, every request must bring the token.
        port: 0: a free one.
        token: what requests must bring; empty: made anew where it is needed.

    Attributes:
        models: see above.
        page: see above.
        waiting: one for each question that may wait or be answered.

    Raises:
        SettingsError: the port is taken, there is no such address, or the token is not to be used.
    """

    def __init__(
        self, models: ServedModels, page: str, *, host: str = "127.0.0.1", port: int = 0, token: str = ""
    ) -> None:
        self.models = models
        self.page = page
        self.waiting = threading.BoundedSemaphore(MOST_WAITING)
        super().__init__(_Handler, host=host, port=port, token=token)


class _Handler(LocalHandler):
    """Answers in JSON below ``/v1/``, and in a page or a line of text elsewhere."""

    server: AnswerServer

    def do_GET(self) -> None:  # noqa: N802 - the standard library's name
        path = urlsplit(self.path).path
        if path.startswith(_API):
            return self._guarded(lambda: self._told(path))
        if not self.meant_for_us():
            return self.refuse(HTTPStatus.MISDIRECTED_REQUEST, "this server has another name")
        if not self.has_token():
            return self.refuse(HTTPStatus.FORBIDDEN, "the address lacks the token that fedmosaic serve has printed")
        if path == "/":
            return self.send(self.server.page.encode(), "text/html; charset=utf-8")
        return self.refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:  # noqa: N802
        self.close_connection = True  # what is left of a body that was refused must not be read as a request
        self._unread = int(self.headers.get("Content-Length", "")) if self._says_its_length else 0
        self._guarded(self._answer)
        self._drain()

    def _guarded(self, answer: Callable[[], None]) -> None:
        """Answer, or say in OpenAI's form why not."""
        try:
            self._check()
            answer()
        except _GONE:
            self.close_connection = True
        except Exception as error:
            refusal = _refusal(error)
            self._send_json(refusal.as_json(), refusal.status)

    def _check(self) -> None:
        if not self.meant_for_us():
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, "the request was made to another server than this one")
        if not self.has_token():
            message = "the request lacks the token that fedmosaic serve has printed; send it as Authorization: Bearer"
            raise Refusal(HTTPStatus.UNAUTHORIZED, message, code="invalid_api_key")

    def _told(self, path: str) -> None:
        made = self.server.models.made
        tables = {
            name: {"id": name, "object": "model", "created": made, "owned_by": "fedmosaic"}
            for name in self.server.models.by_name
        }
        if path == _MODELS:
            return self._send_json({"object": "list", "data": [*tables.values()]})
        if path.startswith(f"{_MODELS}/") and (found := tables.get(unquote(path.removeprefix(f"{_MODELS}/")))):
            return self._send_json(found)
        if path == _CHAT:
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"{_CHAT} takes POST")
        raise Refusal(HTTPStatus.NOT_FOUND, f"there is nothing here; known: {_MODELS}, {_CHAT}")

    def _answer(self) -> None:
        if urlsplit(self.path).path != _CHAT:
            raise Refusal(HTTPStatus.NOT_FOUND, f"nothing takes POST here but {_CHAT}")
        if not self.server.waiting.acquire(blocking=False):
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_WAITING} questions wait already; ask again later")
        try:
            models = self.server.models
            request = parse(self._body(), models.by_name.keys())
            if request.stream:
                self._stream(chunks(request, models.answers(request)))
            else:
                *_, said = models.answers(request)
                self._send_json(completion(request, said))
        finally:
            self.server.waiting.release()

    def _body(self) -> bytes:
        kind = self.headers.get_content_type()
        if kind != "application/json":  # a form of another page, which a browser sends without asking, is none
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body is {kind}; expected application/json")
        if not self._says_its_length:
            raise Refusal(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long its body is (Content-Length)")
        if self._unread > LARGEST_BODY:
            message = f"the body has {self._unread:,} bytes; expected at most {LARGEST_BODY:,}: send smaller pictures"
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        length, self._unread = self._unread, 0
        return self.rfile.read(length)

    @property
    def _says_its_length(self) -> bool:
        length = self.headers.get("Content-Length", "")
        return length.isascii() and length.isdigit() and len(length) <= 15

    def _drain(self) -> None:
        """Read what is left of a body that was refused, if it is not too much: else its sender may miss the answer."""
        left = min(self._unread, 2 * LARGEST_BODY)
        with suppress(OSError):
            while left > 0 and (read := self.rfile.read(min(left, 2**16))):
                left -= len(read)

    def _stream(self, pieces: Generator[Mapping[str, Any]]) -> None:
        """Send pieces as events; what goes wrong before the first one has a status of its own."""
        with closing(pieces):
            first = next(pieces)
            self.head(HTTPStatus.OK, "text/event-stream; charset=utf-8")
            self._event(first)
            try:
                for piece in pieces:
                    self._event(piece)
            except _GONE:
                raise
            except Exception as error:
                return self._event(_refusal(error).as_json())
            return self._write(b"data: [DONE]\n\n")

    def _event(self, piece: Mapping[str, Any]) -> None:
        self._write(f"data: {json.dumps(piece)}\n\n".encode())

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()

    def _send_json(self, table: Mapping[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send(json.dumps(table).encode(), "application/json", status)


def _refusal(error: Exception) -> Refusal:
    """Return what a request is refused with; what was not foreseen is printed here."""
    if not isinstance(error, Refusal | FedMosaicError):
        traceback.print_exception(error, file=sys.stderr)
    return Refusal.of(error)
