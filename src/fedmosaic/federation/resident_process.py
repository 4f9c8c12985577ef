"""The resident process of a node: one base model, loaded once, and one message after the other.

It ends when nobody has asked for a while, when the process that starts the node's ClientApps is gone, or when its file
names another process.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import socket
import threading
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from fedmosaic.federation import flower
from fedmosaic.federation.resident import ANSWERED, FAILED, Address
from fedmosaic.io import write_atomically
from fedmosaic.processes import is_running
from fedmosaic.version import __version__

_WATCH_SECONDS = 1.0
_FIRST_SECONDS = 60.0  # whoever has started this process is about to ask
_SECRET_BYTES = 32
_FAMILY = "AF_UNIX" if hasattr(socket, "AF_UNIX") else "AF_INET"

log = logging.getLogger("fedmosaic.resident")


class Watch:
    """Ends the process when it is of no more use.

    Args:
        file: the process's own.
        idle: seconds without a message.
        parent: the process that starts the node's ClientApps.
    """

    def __init__(self, file: Path, *, idle: float, parent: int) -> None:
        self._file = file
        self._idle = idle
        self._parent = parent
        self._busy = threading.Lock()
        self._last = time.monotonic() + _FIRST_SECONDS

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> None:
        self._busy.acquire()

    def __exit__(self, *_: object) -> None:
        self._last = time.monotonic()
        self._busy.release()

    def _watch(self) -> None:
        while True:
            time.sleep(_WATCH_SECONDS)
            address = Address.read(self._file)
            replaced = address is None or address.pid != os.getpid()
            if replaced or not is_running(self._parent):
                self._end()  # also in the middle of a message: nobody waits for its reply
            if self._busy.acquire(blocking=False):
                if time.monotonic() - self._last > self._idle:
                    self._end()
                self._busy.release()

    def _end(self) -> None:
        address = Address.read(self._file)
        if address is not None and address.pid == os.getpid():
            self._file.unlink(missing_ok=True)
            if isinstance(address.socket, str):
                Path(address.socket).unlink(missing_ok=True)
        log.info("the resident process ends")
        os._exit(0)


def main() -> None:
    """Listen, and answer until the watch ends the process."""
    parser = argparse.ArgumentParser(description="The resident process of a node; its ClientApp starts it.")
    parser.add_argument("file", type=Path, help="where its address is written")
    parser.add_argument("--idle", type=float, required=True, help="seconds without a message after which it ends")
    parser.add_argument("--parent", type=int, required=True, help="process without which it ends")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    os.umask(0o077)  # state, secret and socket are this user's alone
    secret = secrets.token_bytes(_SECRET_BYTES)
    with Listener(family=_FAMILY, authkey=secret, backlog=16) as listener:
        address = {"socket": listener.address, "secret": secret.hex(), "pid": os.getpid(), "version": __version__}
        write_atomically(asked.file, json.dumps(address) + "\n")
        watch = Watch(asked.file, idle=asked.idle, parent=asked.parent)
        watch.start()
        while True:
            try:
                connection = listener.accept()
            except (OSError, EOFError, AuthenticationError) as error:
                log.warning("a connection was refused: %s", type(error).__name__)
                continue
            with watch, connection:
                _serve(connection)


def _serve(connection: Connection) -> None:
    """Answer the one message of a connection; whoever has hung up gets the same reply to the same message later."""
    try:
        speaker, context, message = (connection.recv_bytes() for _ in range(3))
        outcome, reply = _answer(speaker, context, message)
        connection.send_bytes(outcome)
        connection.send_bytes(reply)
    except (EOFError, OSError) as error:
        log.warning("the asking process is gone: %s", type(error).__name__)


def _answer(speaker: bytes, context: bytes, message: bytes) -> tuple[bytes, bytes]:
    try:
        flower.speak_as(**json.loads(speaker))
        asked, node = flower.message_of(message), flower.context_of(context)
        from fedmosaic.federation import client_app  # noqa: PLC0415 - loads torch; the process listens before

        return ANSWERED, flower.message_bytes(client_app.app(asked, node))
    except Exception as error:
        log.exception("the client could not answer")
        return FAILED, type(error).__name__.encode()


if __name__ == "__main__":
    main()
