"""A node's resident process as the short-lived ClientApp processes see it: find it or start it, and ask it.

The process keeps the client's base model loaded (:mod:`fedmosaic.federation.resident_process`). It is reached through a
socket of this machine, after both sides have proved that they know the secret in a file that only this user can read
(``multiprocessing.connection``, HMAC). Messages are Flower's protobuf; nothing is pickled.

The file is all there is to know: who finds no process behind it starts another. A client gives the same reply to a
repeated message, so one that a process has died over is given to the next.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedmosaic.config import home
from fedmosaic.errors import ResidentError
from fedmosaic.federation.node_settings import NodeSettings
from fedmosaic.version import __version__

ANSWERED, FAILED = b"answered", b"failed"

_TRIES = 3
_START_SECONDS = 300.0
_POLL_SECONDS = 0.05

log = logging.getLogger("fedmosaic")


@dataclass(frozen=True)
class Address:
    """Where a resident process listens: the content of its file.

    Attributes:
        socket: a path, or host and port.
        secret: in hex; both sides prove that they know it.
        pid: of the process.
        version: of fedmosaic in it.
    """

    socket: str | tuple[str, int]
    secret: str
    pid: int
    version: str

    @classmethod
    def read(cls, path: Path) -> Address | None:
        """Return what a file says; None if there is none, or none of this version.

        Args:
            path: the file.
        """
        try:
            table: Any = json.loads(path.read_text(encoding="utf-8"))
            place = table["socket"]
            address = cls(
                place if isinstance(place, str) else tuple(place), table["secret"], table["pid"], table["version"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return address if address.version == __version__ else None


class Resident:
    """The resident process of one node.

    Args:
        node: of the node.
    """

    def __init__(self, node: NodeSettings) -> None:
        root = Path(node.state).expanduser() if node.state else home() / "nodes"
        self._file = root / f"resident-{node.partition_id}.json"
        self._idle = node.idle

    def ask(self, speaker: Mapping[str, int], context: bytes, message: bytes) -> bytes:
        """Return the reply to a message.

        Args:
            speaker: as whom the client speaks.
            context: of the node, as protobuf.
            message: from the server, as protobuf.

        Returns:
            The reply, as protobuf.

        Raises:
            ResidentError: no process starts, or stays alive over this message, or can read it.
        """
        for _ in range(_TRIES):
            try:
                with self._connection() as connection:
                    for part in (json.dumps(dict(speaker)).encode(), context, message):
                        connection.send_bytes(part)
                    outcome, reply = connection.recv_bytes(), connection.recv_bytes()
            except (EOFError, OSError) as error:
                log.warning("the resident process of this node is gone (%s); another is started", type(error).__name__)
                continue
            if outcome == FAILED:
                raise ResidentError(f"it failed with {reply.decode(errors='replace')}; {self._log} says more")
            return reply
        raise ResidentError(f"{_TRIES} resident processes have died over this message; {self._log} says more")

    @property
    def _log(self) -> Path:
        return self._file.with_suffix(".log")

    def _connection(self) -> Connection:
        """Return a connection to the process that is there, or to one that is started now."""
        if (found := self._try()) is not None:
            return found
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._file.with_suffix(".lock")):
            if (found := self._try()) is not None:  # another ClientApp has been faster
                return found
            return self._started()

    def _try(self) -> Connection | None:
        address = Address.read(self._file)
        if address is None:
            return None
        try:
            return Client(address.socket, authkey=bytes.fromhex(address.secret))
        except (OSError, EOFError, ValueError, AuthenticationError):
            return None  # what is behind the file, if anything, is not ours

    def _started(self) -> Connection:
        self._file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "fedmosaic.federation.resident_process"]
        options = [str(self._file), "--idle", str(self._idle), "--parent", str(os.getppid())]
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                [*command, *options], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while (found := self._try()) is None:
            if (status := process.poll()) is not None and status < 0:
                raise ConnectionResetError(f"killed by signal {-status}")  # while it was starting: another may stay
            if status is not None or time.monotonic() > deadline:
                raise ResidentError(f"the resident process of this node does not start; {self._log} says more")
            time.sleep(_POLL_SECONDS)
        return found
